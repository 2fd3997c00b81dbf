"""The embedded engine: predictors in this process, batched by one worker thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path as FilePath
from queue import Empty, SimpleQueue

import torch

from browsing.engine import EngineDown, EngineError, EngineTimeout, GenerateRequest, Path
from browsing.engines.continuous import Continuous
from browsing.engines.job import Core, Job, Waited
from browsing.engines.llamas import Llamas
from browsing.engines.rollout import Predictor, Rollouts
from browsing.threads import keep_to
from browsing.vocabulary import BOS, NEVER

HEALTH_SECONDS = 5.0


class LocalEngine:
    """Implements `browsing.engine.Engine` on in-process torch.

    One worker thread owns the models. Small Llamas of one shape, as training makes them, advance together, a step at a
    time: requests of all clusters join between two steps (`browsing.engines.continuous`). Other models are run one
    batch after another, each of one cluster (`browsing.engines.rollout`). Either way at most `max_rows` paths are
    computed at once, each distinct prompt is read once for all its paths, and a path that ended is computed no further.
    A path depends on its request alone, but for the rounding of float sums: beside other rows a probability may differ
    by 1e-6, and a draw only where its random number lies that close to a boundary.
    """

    def __init__(
        self,
        predictors: Sequence[FilePath],
        *,
        threads: int | None = None,
        max_rows: int = 1024,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`predictors`: one Hugging Face directory per cluster. `threads`: torch's, in the worker and for steps
        of many rows; by default as it is. Raises `ValueError` for no predictor or no row."""
        if not predictors or max_rows < 1:
            raise ValueError(f"{len(predictors)} predictors with {max_rows} rows: both must be at least 1")
        self._directories = list(predictors)
        self._threads = threads
        self._max_rows = max_rows
        self._dtype = dtype
        self._predictors: list[Predictor] = []
        self._llamas: Llamas | None = None
        self._worker: _Worker | None = None
        self._arrived: list[Job] = []
        self._waited: Waited | None = None

    def on_wait(self, tell: Waited) -> None:
        """`tell` hears of every request of `generate` from now on that is begun, in the worker's thread; it returns at
        once and raises nothing. Who gave up waiting is not told of, nor is a health check."""
        self._waited = tell

    async def start(self) -> None:
        """Load the predictors. Raises `EngineError` naming the first that cannot be loaded or gives no token."""
        if self._worker is not None:
            return
        await _in_thread(self._load)
        stopping = threading.Event()
        resting = self._threads if self._llamas is None else 1  # Llamas take more for the steps that are worth it
        self._worker = _Worker(self._core(stopping), stopping, resting)
        dead = [k for k, alive in (await self.healthy()).items() if not alive]
        if dead:
            await self.stop()
            raise EngineError(f"{self._directories[dead[0]]} is loaded but gives no token")

    async def generate(self, request: GenerateRequest) -> list[Path]:
        return await self._answer(request, self._waited)

    async def _answer(self, request: GenerateRequest, waited: Waited | None) -> list[Path]:
        if self._worker is None:
            raise EngineDown("the local engine is not running")
        self._check(request)
        job = Job(request, waited)
        # Handed over in the loop's next round: requests gathered in this one then reach the worker as one batch.
        self._arrived.append(job)
        asyncio.get_running_loop().call_soon(self._hand_over)
        try:
            async with asyncio.timeout(request.deadline):
                return await asyncio.wrap_future(job.future)
        except TimeoutError as error:
            raise EngineTimeout(f"no complete answer within {request.deadline} s") from error

    def generate_batch(self, requests: Sequence[GenerateRequest]) -> list[list[Path]]:
        """The synchronous core: answer all `requests`, in order, in the calling thread; `start` is not needed.

        Not to be called while the engine is running (its worker owns the models). Raises what `generate` raises.
        """
        if not self._predictors:
            self._load()
        for request in requests:
            self._check(request)
        jobs = [Job(request) for request in requests]
        core = self._core(threading.Event())
        core.submit(jobs)
        while core.busy:
            core.step()
        return [job.future.result() for job in jobs]

    async def healthy(self) -> dict[int, bool]:
        """An engine that is late because it works through what came before is well; one that stands still is not."""
        clusters = range(len(self._directories))
        return dict(zip(clusters, await asyncio.gather(*(self._alive(k) for k in clusters)), strict=True))

    async def stop(self) -> None:
        """Returns when the worker has ended: after the step that it is at. Who does not want to wait for one that is
        stuck cancels this: the worker's thread holds up neither the event loop's others nor the end of the process."""
        worker, self._worker = self._worker, None
        self._predictors, self._llamas = [], None
        if worker is not None:
            await asyncio.wrap_future(worker.stop())

    async def _alive(self, cluster: int) -> bool:
        worker = self._worker
        before = worker.steps if worker is not None else 0
        try:
            await self._answer(GenerateRequest(cluster, (BOS,), 1, 1, greedy=True, deadline=HEALTH_SECONDS), None)
        except EngineTimeout:
            return worker is not None and worker.steps > before + 1  # one may have been over, and not yet counted
        except EngineError:
            return False
        return True

    def _hand_over(self) -> None:
        jobs, self._arrived = self._arrived, []
        if self._worker is None:
            for job in jobs:
                job.fail(EngineError("the local engine was stopped"))
        elif jobs:
            self._worker.submit(jobs)

    def _load(self) -> None:
        predictors = []
        for directory in self._directories:
            try:
                predictors.append(Predictor.load(directory, self._dtype))
            except (OSError, ValueError, RuntimeError) as error:
                raise EngineError(f"{directory}: cannot be loaded as a causal language model: {error}") from error
        models = [predictor.model for predictor in predictors]
        if self._dtype == torch.float32 and Llamas.take(models):
            self._llamas = Llamas(models, max(self._max_rows, predictors[0].positions), self._max_rows)
            predictors = [replace(predictor, model=None) for predictor in predictors]
        self._predictors = predictors

    def _core(self, stopping: threading.Event) -> Core:
        if self._llamas is not None:
            try:
                return Continuous(self._llamas, self._max_rows, self._threads)
            except MemoryError as error:
                raise EngineError(f"not enough memory for the predictors' keys and values: {error}") from error
        return Rollouts(self._predictors, self._max_rows, stopping)

    def _check(self, request: GenerateRequest) -> None:
        if not 0 <= request.cluster < len(self._predictors):
            raise ValueError(f"no cluster {request.cluster}: there are {len(self._predictors)}")
        predictor = self._predictors[request.cluster]
        for token in (*request.prompt, *request.watched, *request.forbidden):
            if not 0 <= token < predictor.vocabulary:
                raise ValueError(f"token id {token} is outside the vocabulary of {predictor.vocabulary}")
        if len(request.prompt) + request.max_steps > predictor.positions:
            raise ValueError(
                f"a prompt of {len(request.prompt)} tokens and {request.max_steps} steps do not fit into the model's "
                f"{predictor.positions} positions"
            )
        if len({*request.forbidden, *NEVER}) == predictor.vocabulary:
            raise ValueError("nothing is allowed: every token is forbidden")


def advance(core: Core) -> None:
    """The worker's every step: the one place at which it computes."""
    core.step()


class _Worker:
    """The thread that owns the models, and its queue. `steps`: so many has it made."""

    def __init__(self, core: Core, stopping: threading.Event, threads: int | None) -> None:
        self.steps = 0
        self._core = core
        self._threads = threads
        self._queue: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._stopping = stopping
        self._dead = threading.Event()
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # who gives up waiting for it does not end it
        threading.Thread(target=self._run, name="hetlm-local-engine", daemon=True).start()

    def submit(self, jobs: list[Job]) -> None:
        self._queue.put(jobs)
        if self._dead.is_set():  # looked at after the put: whichever side comes second finds the jobs
            self._fail_waiting(EngineDown("the local engine's worker has died"))

    def stop(self) -> Future[None]:
        """Fail what is waiting or running; the future is done when the thread has nothing left to do."""
        self._stopping.set()
        self._queue.put(None)
        return self._ended

    def _run(self) -> None:
        try:
            self._work()
            why: EngineError = EngineError("the local engine was stopped")
        except BaseException as error:  # whatever it is, nobody may wait for a thread that is gone
            why = EngineDown(f"the local engine's worker died: {type(error).__name__}")
        self._dead.set()
        self._core.fail_all(why)
        self._fail_waiting(why)
        self._ended.set_result(None)

    def _work(self) -> None:
        if self._threads is not None:
            keep_to(self._threads)
        while not self._stopping.is_set():
            if not self._core.busy:
                self._core.submit(self._queue.get() or [])
            while not self._queue.empty():
                self._core.submit(self._queue.get() or [])
            if self._core.busy and not self._stopping.is_set():
                advance(self._core)
                self.steps += 1

    def _fail_waiting(self, error: EngineError) -> None:
        """May run in two threads at once: every job is failed by one of them."""
        while True:
            try:
                jobs = self._queue.get_nowait()
            except Empty:
                return
            for job in jobs or []:
                job.fail(error)


async def _in_thread(call: Callable[[], None]) -> None:
    """As `asyncio.to_thread`, but in a thread that holds up nobody should `call` never return."""
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            call()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="hetlm-local-load", daemon=True).start()
    await asyncio.wrap_future(done)
