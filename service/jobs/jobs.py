"""Batches as their callers see them: hand in, look up, fetch, delete. A job is seen by the key that made it alone."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from service.jobs.clock import steady
from service.jobs.documents import BatchesQuery, BatchesResponse, BatchJobResponse, cursor, document
from service.jobs.ledger import UNFINISHED, Job, KeyTakenError, Ledger
from service.jobs.meter import Meter
from service.jobs.rules import Rules
from service.jobs.storage import Storage, StorageError
from service.jobs.worker import Worker
from service.logs import described
from service.problems import ProblemError
from service.schemas import PredictOptions
from service.scoring.parts import disk_full
from service.scoring.scorer import Scorer
from service.scoring.served import Served
from service.scoring.threads import in_thread

Take = Callable[[Path | None], Awaitable[str]]
"""Writes an input to the path it is given, if any, and returns what tells this input from another."""


class Jobs:
    """Holds its directory from the beginning until `running` ends."""

    def __init__(
        self,
        root: Path,
        scorer: Scorer,
        served: Callable[[], Served],
        rules: Rules,
        meter: Meter,
        log: FilteringBoundLogger,
        *,
        most: int,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`served`: what is served just now. `most`: batches that one caller may have unfinished. `clock`: seconds
        since 1970, by default a `steady` one. Raises `StorageError`."""
        self._storage = Storage(root)
        try:
            self._ledger = Ledger(self._storage.ledger)
        except sqlite3.Error as error:
            self._storage.close()
            raise StorageError(
                f"{self._storage.ledger}: {error}; name another directory, or remove it with all its batches"
            ) from None
        self._clock = clock or steady()
        self._rules = rules
        self._worker = Worker(self._ledger, self._storage, scorer, served, rules, meter, log, self._clock)
        self._log = log
        self._most = most
        self._arriving: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()
        """Requests under way that will be new batches, and those whose keys are known: per owner."""

    @asynccontextmanager
    async def running(self, started: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Work on what is there and what comes, once `started` returns; what is unfinished at the end goes on at the
        next start."""
        try:
            await self._worker.clean_up()
            work = asyncio.create_task(self._work(started))
            try:
                yield
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        finally:
            await self._ledger.close()
            self._storage.close()

    async def _work(self, started: Callable[[], Awaitable[None]]) -> None:
        try:
            await started()
        except Exception:
            return  # without an engine the service ends, and says why
        try:
            await self._worker.work()
        except Exception as error:
            self._log.error("batches_stopped", **described(error))
            raise

    async def submit(
        self, owner: str, key: str | None, options: PredictOptions, take: Take, name: str = ""
    ) -> tuple[BatchJobResponse, bool]:
        """The new job, and True; or the one that `key` already stands for, and False: then nothing is written.
        `name`: of the file, where it has one.

        Raises `ProblemError` (409 where the key stands for another request, 429, 507) and what `take` raises.
        """
        known = await self._known(owner, key) if key is not None else None
        if known is not None:
            if known.options.model_dump() != options.model_dump():
                raise _reused({"Connection": "close"})  # whatever the body is
            with self._one_of(self._repeated, owner, 0):
                return await self._again(known.id, _fingerprint(name, await take(None), options)), False
        with self._one_of(self._arriving, owner, await self._ledger.unfinished(owner)):
            return await self._new(owner, key, options, take, name)

    @contextlib.contextmanager
    def _one_of(self, counter: Counter[str], owner: str, others: int) -> Iterator[None]:
        """One of those that the owner has in `counter`, which with `others` must not be more than `most`. Raises
        `ProblemError`."""
        if others + counter[owner] >= self._most:
            raise ProblemError(
                "too-many-batches",
                f"At most {self._most} batches may be unfinished: wait for one of them, or delete it.",
                headers={"Retry-After": "60"},
            )
        counter[owner] += 1
        try:
            yield
        finally:
            counter[owner] -= 1
            if not counter[owner]:
                del counter[owner]

    async def _new(
        self, owner: str, key: str | None, options: PredictOptions, take: Take, name: str
    ) -> tuple[BatchJobResponse, bool]:
        job_id = secrets.token_urlsafe(16)
        try:
            fingerprint = _fingerprint(name, await take(self._storage.incoming(job_id)), options)
            now = self._clock()
            job = Job(job_id, owner, key, fingerprint, options, created=now, expires=self._rules.expiry(now))
            return await self._accept(job)
        except OSError as error:
            if not disk_full(error):
                raise
            raise ProblemError(
                "disk-full", "The service's disk has no room for the file.", headers={"Connection": "close"}
            ) from None
        finally:
            with contextlib.suppress(OSError):
                await in_thread(self._storage.drop_incoming, job_id)

    async def _known(self, owner: str, key: str) -> Job | None:
        """The job of a key; one that has expired has left it."""
        known = await self._ledger.by_key(owner, key)
        if known is None or not self._expired(known):
            return known
        await self._worker.delete(known)
        return None

    async def _accept(self, job: Job) -> tuple[BatchJobResponse, bool]:
        try:
            await in_thread(self._storage.adopt, job.id)
            await self._ledger.add(job)
        except KeyTakenError:  # the same request came twice at a time
            await in_thread(self._storage.remove, job.id)
            known = await self._ledger.by_key(job.owner, job.idempotency_key or "")
            return await self._again(known.id if known is not None else "", job.fingerprint), False
        except asyncio.CancelledError:  # it may be in the book by now, and nobody was told of it
            await self._worker.delete(job)
            raise
        except Exception:
            await in_thread(self._storage.remove, job.id)
            raise
        self._worker.wake()
        return self._document(job), True

    async def _again(self, job_id: str, fingerprint: str) -> BatchJobResponse:
        """The job as it is by now, if it is what was asked for."""
        known = await self._ledger.find(job_id)
        if known is None:
            raise ProblemError("key-reused", "The batch of this key was deleted just now: send it again.")
        if known.fingerprint != fingerprint:
            raise _reused()
        return self._document(known)

    async def find(self, owner: str, job_id: str) -> BatchJobResponse:
        """Raises `ProblemError` (404)."""
        return self._document(await self._own(owner, job_id))

    async def list(self, owner: str, asked: BatchesQuery) -> BatchesResponse:
        found = await self._ledger.of(owner, self._clock(), asked.limit + 1, asked.place)
        shown = found[: asked.limit]
        return BatchesResponse(
            batches=[self._document(job) for job in shown], next=cursor(shown[-1]) if len(found) > len(shown) else None
        )

    async def result(self, owner: str, job_id: str) -> Path:
        """A Parquet file. Raises `ProblemError` (404, 409)."""
        job = self._current(await self._own(owner, job_id))
        if job.state != "done":
            detail = {"failed": "It failed: its document says why."}.get(job.state, "Ask for its state, and come back.")
            raise ProblemError("not-done", f"The batch is {job.state}. {detail}")
        return self._storage.result(job.id)

    async def delete(self, owner: str, job_id: str) -> BatchJobResponse:
        """Stops it and deletes all of it at once; what it was. Raises `ProblemError` (404)."""
        job = self._current(await self._own(owner, job_id))
        last = self._document(job)
        if not await self._worker.delete(job):
            raise _no_batch()
        return last.model_copy(update={"state": "cancelled"} if job.state in UNFINISHED else {"results": None})

    async def _own(self, owner: str, job_id: str) -> Job:
        job = await self._ledger.find(job_id)
        if job is None or job.owner != owner or self._expired(job):
            raise _no_batch()
        return job

    def _expired(self, job: Job) -> bool:
        """One that has not ended is there until the worker has ended it."""
        return job.state not in UNFINISHED and job.expires is not None and job.expires <= self._clock()

    def _current(self, job: Job) -> Job:
        return replace(self._worker.unsaved.get(job.id, job))

    def _document(self, job: Job) -> BatchJobResponse:
        run = self._worker.run
        return document(self._current(job), run if run is not None and run.job.id == job.id else None)


def _fingerprint(name: str, digest: str, options: PredictOptions) -> str:
    return hashlib.sha256(f"{name} {digest} {options.model_dump_json()}".encode()).hexdigest()


def _reused(headers: dict[str, str] | None = None) -> ProblemError:
    return ProblemError(
        "key-reused",
        "This Idempotency-Key stands for another file or other options: take a new key for a new batch.",
        headers=headers,
    )


def _no_batch() -> ProblemError:
    return ProblemError("no-such-batch", "There is no such batch of yours; it may have expired.")
