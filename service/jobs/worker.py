"""Works on the jobs, one after another; whatever happens to the process, what is finished stays finished."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from structlog.typing import FilteringBoundLogger

from service.jobs.home import Home
from service.jobs.ledger import UNFINISHED, Job, Ledger
from service.jobs.meter import Meter
from service.logs import described
from service.problems import ProblemError
from service.scoring.inputs import Limits, open_input
from service.scoring.parts import Parts, disk_full
from service.scoring.results import Tally, schema
from service.scoring.rows import defaults_of
from service.scoring.scorer import Scorer, Work, in_thread

SWEEP_SECONDS = 30.0
HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Served:
    """What jobs are scored with just now: the bundle's version and its outcomes."""

    version: str
    outcomes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Rules:
    """`chunk_rows`: as in `Parts`. `retention_hours`: from a job's end to its removal."""

    limits: Limits
    chunk_rows: int
    retention_hours: float


@dataclass(slots=True)
class Run:
    """The job under way. `tally`: with the rows of the unfinished chunk. `rate`: rows per second since it was begun or
    taken up again, None before the first."""

    job: Job
    task: asyncio.Task[None]
    tally: Tally = field(default_factory=Tally)
    baseline: int | None = None
    began: float = 0.0

    @property
    def rate(self) -> float | None:
        rows = self.tally.done - (self.baseline or 0)
        seconds = time.monotonic() - self.began
        return rows / seconds if rows and seconds > 0 else None


class _GoneError(Exception):
    """The job was deleted."""


class _OtherBundleError(Exception):
    """Another bundle is served than the one that the job was begun with."""


class Worker:
    """`served` is asked before and after every chunk: a job's rows are all of one bundle, and where it is exchanged the
    job begins again. `clock`: seconds since 1970."""

    def __init__(
        self,
        ledger: Ledger,
        home: Home,
        scorer: Scorer,
        served: Callable[[], Served],
        rules: Rules,
        meter: Meter,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._home = home
        self._scorer = scorer
        self._served = served
        self._rules = rules
        self._meter = meter
        self._log = log
        self._clock = clock
        self._wake = asyncio.Event()
        self.run: Run | None = None
        self.unsaved: dict[str, Job] = {}
        """Ends that could not be written: they count all the same, and are tried again."""

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    async def clean_up(self) -> None:
        """After a crash: drop what belongs to no job. Only before anything new can arrive."""
        jobs = await self._ledger.all()
        ended = {job.id for job in jobs if job.state not in UNFINISHED}
        await in_thread(self._home.sweep, {job.id for job in jobs}, ended)

    async def work(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            job = None
            with self._reading():
                await self.sweep()
                job = await self._ledger.next(self.unsaved)
            if job is None:
                self._meter.idle()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SWEEP_SECONDS):
                        await self._wake.wait()
                continue
            await self._through(job)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Where the book cannot be read just now: try again later, serve on."""
        try:
            yield
        except Exception as error:
            self._log.error("batches_not_read", **described(error))

    async def _through(self, job: Job) -> None:
        task = asyncio.ensure_future(self._finish(job))
        self.run = Run(job, task)
        try:
            while not (await asyncio.wait((task,), timeout=SWEEP_SECONDS))[0]:
                with self._reading():  # what has expired waits for no job, however long
                    await self.sweep()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.run = None

    async def delete(self, job: Job) -> bool:
        """At once, whatever state it is in. False where it is gone already."""
        # First the book, then the worker: one that begins the job now finds it gone, one that has begun is stopped.
        found = await self._ledger.delete(job.id)
        self.unsaved.pop(job.id, None)
        if self.run is not None and self.run.job.id == job.id:
            self.run.task.cancel()
            await asyncio.wait((self.run.task,))
        await in_thread(self._home.remove, job.id)
        return found

    async def sweep(self) -> None:
        """Delete what has expired; write what could not be written."""
        for job in list(self.unsaved.values()):
            await self._ledger.save(job)
            del self.unsaved[job.id]
        for job in await self._ledger.expired(self._clock()):
            await self.delete(job)
            self._log.info("batch_expired", batch=job.id)
        self._meter.jobs(await self._ledger.count())

    async def _finish(self, job: Job) -> None:
        try:
            while True:
                try:
                    await self._score(job)
                    return
                except _OtherBundleError:
                    self._log.info("batch_begins_again", batch=job.id)
        except _GoneError:
            return
        except ProblemError as problem:
            await self._fail(job, problem)
        except Exception as error:
            full = disk_full(error)
            say = self._log.warning if full else self._log.error
            say("batch_failed", batch=job.id, **described(error))
            await self._fail(job, _FULL if full else _INTERNAL)

    async def _score(self, job: Job) -> None:
        served = self._served()
        if job.bundle_version != served.version:  # another's rows do not go with these
            await in_thread(self._home.drop_parts, job.id)
        job = replace(job, state="running", started=job.started or self._clock(), bundle_version=served.version)
        await self._save(job)
        source = await in_thread(open_input, self._home.input(job.id), self._rules.limits)
        job = replace(job, rows=source.count)
        await self._save(job)
        parts = Parts(self._home.parts(job.id), schema(served.outcomes), self._rules.chunk_rows, source.count)
        options = defaults_of(job.options, datetime.fromtimestamp(job.created, UTC))

        async def keep(tally: Tally) -> None:
            if self._served() != served:
                raise _OtherBundleError
            await self._save(replace(job, tally=tally))

        tally = await self._scorer.score(Work(source, parts, options, job.id), self._reporting(source.count), keep)
        await in_thread(parts.assemble, self._home.result(job.id), "parquet")
        await self._save(self._ended(replace(job, state="done", tally=tally)))
        await in_thread(self._home.drop_work, job.id)
        self._log.info("batch_done", batch=job.id, rows=tally.done, failed=tally.failed, fallbacks=tally.fallbacks)

    def _reporting(self, rows: int) -> Callable[[Tally], None]:
        run = self.run
        assert run is not None, "a job is scored as the run under way"
        run.baseline = None

        def report(tally: Tally) -> None:
            if run.baseline is None:
                run.baseline, run.began = tally.done, time.monotonic()
            else:
                self._meter.scored(run.tally, tally, rows)
            run.tally = tally

        return report

    async def _fail(self, job: Job, problem: ProblemError) -> None:
        """Its unfinished work goes first: where the disk is full there is room again."""
        with contextlib.suppress(OSError):
            await in_thread(self._home.drop_work, job.id)
        run = self.run
        now = (await self._known(job)) or job
        tally = run.tally if run is not None else now.tally
        failed = self._ended(replace(now, state="failed", tally=tally, problem=problem.document(None)))
        try:
            await self._ledger.save(failed)
        except Exception as error:
            self.unsaved[job.id] = failed
            self._log.error("batch_not_saved", batch=job.id, **described(error))

    async def _known(self, job: Job) -> Job | None:
        with contextlib.suppress(Exception):
            return await self._ledger.find(job.id)
        return None

    def _ended(self, job: Job) -> Job:
        now = self._clock()
        return replace(job, ended=now, expires=now + self._rules.retention_hours * HOUR)

    async def _save(self, job: Job) -> None:
        if not await self._ledger.save(job):
            raise _GoneError


_FULL = ProblemError("disk-full", "The service's disk is full: have room made, and send the batch again.")
_INTERNAL = ProblemError("internal", "The service's operator finds the cause in the log, under the batch's id.")
