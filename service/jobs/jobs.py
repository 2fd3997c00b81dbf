"""Batches as their callers see them: hand in, look up, fetch, delete. A job is seen by the key that made it alone."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from service.jobs.documents import BatchJobResponse, document
from service.jobs.home import Home, HomeError
from service.jobs.ledger import UNFINISHED, Job, KeyTakenError, Ledger
from service.jobs.meter import Meter
from service.jobs.worker import Rules, Served, Worker
from service.logs import described
from service.problems import ProblemError
from service.schemas import PredictOptions
from service.scoring.parts import disk_full
from service.scoring.scorer import Scorer, in_thread

LISTED = 100
"""Batches in one list."""

Take = Callable[[Path], Awaitable[str]]
"""Writes an input to the path it is given, and returns what tells this input from another."""


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
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`most`: batches that one caller may have unfinished. Raises `HomeError`."""
        self._home = Home(root)
        try:
            self._ledger = Ledger(self._home.ledger)
        except sqlite3.Error as error:
            self._home.close()
            raise HomeError(
                f"{self._home.ledger}: {error}; name another directory, or remove it with all its batches"
            ) from None
        self._worker = Worker(self._ledger, self._home, scorer, served, rules, meter, log, clock)
        self._log = log
        self._most = most
        self._clock = clock
        self._arriving: Counter[str] = Counter()

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
            self._home.close()

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
        self, owner: str, key: str | None, options: PredictOptions, take: Take
    ) -> tuple[BatchJobResponse, bool]:
        """The new job, and True; or the one that `key` already stands for, and False.

        Raises `ProblemError` (422 where the key stands for another request, 429, 507) and what `take` raises.
        """
        known = await self._ledger.by_key(owner, key) if key is not None else None
        if known is None and await self._ledger.unfinished(owner) + self._arriving[owner] >= self._most:
            raise ProblemError(
                "too-many-batches",
                f"At most {self._most} batches may be unfinished: wait for one of them, or delete it.",
                headers={"Retry-After": "60"},
            )
        job_id = secrets.token_urlsafe(16)
        self._arriving[owner] += 1
        try:
            asked = await take(self._home.incoming(job_id))
            fingerprint = hashlib.sha256(f"{asked} {options.model_dump_json()}".encode()).hexdigest()
            job = Job(job_id, owner, key, fingerprint, options, self._clock())
            if known is None:
                return await self._accept(job)
            return self._again(job, known), False
        except OSError as error:
            if not disk_full(error):
                raise
            raise ProblemError(
                "disk-full", "The service's disk has no room for the file.", headers={"Connection": "close"}
            ) from None
        finally:
            self._arriving[owner] -= 1
            with contextlib.suppress(OSError):
                await in_thread(self._home.drop_incoming, job_id)

    async def _accept(self, job: Job) -> tuple[BatchJobResponse, bool]:
        try:
            await in_thread(self._home.adopt, job.id)
            await self._ledger.add(job)
        except KeyTakenError:  # the same request came twice at a time
            await in_thread(self._home.remove, job.id)
            known = await self._ledger.by_key(job.owner, job.idempotency_key or "")
            if known is None:
                raise ProblemError("key-reused", "The batch of this key was deleted just now: try again.") from None
            return self._again(job, known), False
        except BaseException:
            await in_thread(self._home.remove, job.id)
            raise
        self._worker.wake()
        return self._document(job), True

    def _again(self, asked: Job, known: Job) -> BatchJobResponse:
        if asked.fingerprint != known.fingerprint:
            raise ProblemError(
                "key-reused",
                "This Idempotency-Key stands for another file or other options: take a new key for a new batch.",
            )
        return self._document(known)

    async def find(self, owner: str, job_id: str) -> BatchJobResponse:
        """Raises `ProblemError` (404)."""
        return self._document(await self._own(owner, job_id))

    async def list(self, owner: str) -> list[BatchJobResponse]:
        """The newest `LISTED`."""
        found = await self._ledger.of(owner, LISTED)
        return [self._document(job) for job in found if not self._expired(job)]

    async def result(self, owner: str, job_id: str) -> Path:
        """A Parquet file. Raises `ProblemError` (404, 409)."""
        job = self._current(await self._own(owner, job_id))
        if job.state != "done":
            detail = {"failed": "It failed: its document says why."}.get(job.state, "Ask for its state, and come back.")
            raise ProblemError("not-done", f"The batch is {job.state}. {detail}")
        return self._home.result(job.id)

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
        return job.expires is not None and job.expires <= self._clock()

    def _current(self, job: Job) -> Job:
        return replace(self._worker.unsaved.get(job.id, job))

    def _document(self, job: Job) -> BatchJobResponse:
        run = self._worker.run
        return document(self._current(job), run if run is not None and run.job.id == job.id else None)


def _no_batch() -> ProblemError:
    return ProblemError("no-such-batch", "There is no such batch of yours; it may have expired.")
