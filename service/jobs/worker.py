"""Works on the jobs, one after another; whatever happens to the process, what is finished stays finished."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from structlog.typing import FilteringBoundLogger

from service.jobs.ledger import UNFINISHED, Job, Ledger
from service.jobs.meter import Meter
from service.jobs.rules import Rules
from service.jobs.storage import Storage
from service.jobs.versions import scored_with
from service.logs import described
from service.problems import ProblemError
from service.scoring.inputs import open_input
from service.scoring.parts import Parts, disk_full
from service.scoring.results import Tally, schema
from service.scoring.rows import defaults_of
from service.scoring.scorer import Scorer, Terms, Work
from service.scoring.served import Served, VersionGone
from service.scoring.threads import Stop, in_thread, unbroken

SWEEP_SECONDS = 30.0
GONE_SECONDS = 0.1
"""Between a version's end and the next look at what is served: an exchange takes its moment."""


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
        if self.baseline is None:
            return None
        rows = self.tally.done - self.baseline
        seconds = time.monotonic() - self.began
        return rows / seconds if rows and seconds > 0 else None


class _GoneError(Exception):
    """The job was deleted."""


class Worker:
    """`served`: what is served just now. A job's rows are all of one bundle version, the one that was served when it
    was begun; where that is gone, or is no longer served after a chunk, the job begins again with what is, some
    times (`service.jobs.versions`). `clock`: seconds since 1970."""

    def __init__(
        self,
        ledger: Ledger,
        storage: Storage,
        scorer: Scorer,
        served: Callable[[], Served],
        rules: Rules,
        meter: Meter,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._storage = storage
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
        self._stuck: set[str] = set()
        """Jobs that are no more, and whose files could not be removed: that is tried again, too."""

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    async def clean_up(self) -> None:
        """After a crash: drop what belongs to no job, and count the jobs that there are, long before work begins. Only
        before anything new can arrive."""
        jobs = await self._ledger.all()
        unfinished = {job.id for job in jobs if job.state in UNFINISHED}
        done = {job.id for job in jobs if job.state == "done"}
        self._stuck.update(await in_thread(self._storage.sweep, unfinished, done))
        for name in self._stuck:
            self._log.error("batch_not_removed", batch=name)
        for job in jobs:
            if job.state in UNFINISHED and job.expires is None:  # of a book that was begun before there was a bound
                await self._written(replace(job, expires=self._rules.expiry(self._clock())))
        self._meter.jobs(await self._ledger.count())

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
        """At once, whatever state it is in, and to the end, whoever stops waiting for it. False where it is gone
        already. Raises `OSError` where its files cannot be removed; that is tried again."""
        return await unbroken(self._delete(job))

    async def _delete(self, job: Job) -> bool:
        # First the book, then the worker: one that begins the job now finds it gone, one that has begun is stopped.
        found = await self._ledger.delete(job.id)
        self.unsaved.pop(job.id, None)
        await self._stop(job.id)
        await self._remove(job.id)
        return found

    async def _stop(self, job_id: str) -> None:
        if self.run is not None and self.run.job.id == job_id:
            task = self.run.task
            task.cancel()
            await asyncio.wait((task,))

    async def _remove(self, job_id: str) -> None:
        self._stuck.add(job_id)
        await in_thread(self._storage.remove, job_id)
        self._stuck.discard(job_id)

    async def sweep(self) -> None:
        """Delete what has expired, give up what came no further; write and remove what could not be written and
        removed."""
        for job in list(self.unsaved.values()):
            await self._ledger.save(job)
            self.unsaved.pop(job.id, None)
        for name in list(self._stuck):
            with contextlib.suppress(OSError):
                await self._remove(name)
        for job in await self._ledger.expired(self._clock()):
            try:
                if job.state in UNFINISHED:
                    await unbroken(self._give_up(job.id))
                    continue
                await self.delete(job)
            except OSError:
                self._log.error("batch_not_removed", batch=job.id)
            else:
                self._meter.expired()
                self._log.info("batch_expired", batch=job.id)
        self._meter.not_removed(len(self._stuck))
        self._meter.jobs(await self._ledger.count())

    async def _give_up(self, job_id: str) -> None:
        """What has not ended in time; but a chunk that was written just now counts, and so does an end."""
        await self._stop(job_id)
        job = await self._ledger.find(job_id)
        if job is not None and job.state not in UNFINISHED:  # it was stopped between its end and its cleaning
            await in_thread(self._storage.drop_work, job_id)
        elif job is not None and job.expires is not None and job.expires <= self._clock():
            self._log.warning("batch_overdue", batch=job_id)
            await self._fail(job, self._rules.overdue())

    async def _finish(self, job: Job) -> None:
        try:
            job = replace(job, state="running", started=job.started or self._clock())
            while True:
                served = self._served()
                job = scored_with(job, served.version)
                try:
                    await self._score(job, served)
                    return
                except VersionGone:
                    self._log.info("batch_begins_again", batch=job.id)
                    await asyncio.sleep(GONE_SECONDS)
                    job = (await self._known(job)) or job  # with the time that its last chunk gave it
        except _GoneError:
            return
        except ProblemError as problem:
            await self._fail(job, problem)
        except Exception as error:
            full = disk_full(error)
            say = self._log.warning if full else self._log.error
            say("batch_failed", batch=job.id, **described(error))
            await self._fail(job, _FULL if full else _INTERNAL)

    async def _score(self, job: Job, served: Served) -> None:
        run, stop = self.run, Stop()
        assert run is not None, "a job is scored as the run under way"
        run.tally, run.baseline = job.tally, None
        await self._save(job)
        source = await stop.in_thread(open_input, self._storage.input(job.id), self._rules.limits, stop)
        job = replace(job, rows=source.count)
        await self._save(job)
        parts = Parts(
            self._storage.parts(job.id), schema(served.outcomes), self._rules.chunk_rows, source.count, served.version
        )
        options = defaults_of(job.options, datetime.fromtimestamp(job.created, UTC))
        work = Work(source, parts, Terms(served, options, job.id, stop))

        async def keep(tally: Tally) -> None:
            await self._save(replace(job, tally=tally, expires=self._rules.expiry(self._clock())))
            self._meter.chunk()
            if tally.done < source.count and self._served().version != served.version:
                raise VersionGone

        tally = await self._scorer.score(work, self._reporting(run, source.count), keep)
        await stop.in_thread(parts.assemble, self._storage.result(job.id), "parquet", stop)
        await self._save(self._ended(replace(job, state="done", tally=tally)))
        await in_thread(self._storage.drop_work, job.id)
        self._log.info("batch_done", batch=job.id, rows=tally.done, failed=tally.failed, fallbacks=tally.fallbacks)

    def _reporting(self, run: Run, rows: int) -> Callable[[Tally], None]:
        def report(tally: Tally) -> None:
            if run.baseline is None:
                run.baseline, run.began = tally.done, time.monotonic()
                self._meter.begun(tally, rows)
            else:
                self._meter.scored(run.tally, tally, rows)
            run.tally = tally

        return report

    async def _fail(self, job: Job, problem: ProblemError) -> None:
        """What came out goes first: where the disk is full there is room again. The input follows once the end is
        written: until then a start after a crash finds it, and comes to the same end."""
        with contextlib.suppress(OSError):
            await in_thread(self._storage.drop_output, job.id)
        run = self.run
        now = (await self._known(job)) or job
        tally = run.tally if run is not None and run.job.id == job.id else now.tally
        failed = self._ended(replace(now, state="failed", tally=tally, problem=problem.document(None)))
        written = await self._written(failed)
        with contextlib.suppress(OSError):
            await self._remove(job.id)
        if not written and not await self._written(failed):  # no room even without the input
            self.unsaved[job.id] = failed

    async def _written(self, job: Job) -> bool:
        try:
            await self._ledger.save(job)
        except Exception as error:
            self._log.error("batch_not_saved", batch=job.id, **described(error))
            return False
        return True

    async def _known(self, job: Job) -> Job | None:
        with contextlib.suppress(Exception):
            return await self._ledger.find(job.id)
        return None

    def _ended(self, job: Job) -> Job:
        now = self._clock()
        return replace(job, ended=now, expires=self._rules.expiry(now))

    async def _save(self, job: Job) -> None:
        if not await self._ledger.save(job):
            raise _GoneError


_FULL = ProblemError("disk-full", "The service's disk is full: have room made, and send the batch again.")
_INTERNAL = ProblemError("internal", "The service's operator finds the cause in the log, under the batch's id.")
