"""The embedded engine: predictors in this process, batched by a worker thread or two."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path as FilePath

import torch

from browsing.engine import EngineDown, EngineError, EngineTimeout, GenerateRequest, Path
from browsing.engines.continuous import Continuous
from browsing.engines.job import Core, Job, Waited
from browsing.engines.llamas import Llamas
from browsing.engines.rollout import Predictor, Rollouts
from browsing.engines.worker import Worker, divide
from browsing.vocabulary import BOS, NEVER

HEALTH_SECONDS = 5.0
WORKERS = 2
"""Of several threads at most so many steps at once, each with its share of them: two threads that never wait for one
another compute a third more than two that meet after every product, and more of them would wait for the interpreter."""


class LocalEngine:
    """Implements `browsing.engine.Engine` on in-process torch.

    Small Llamas of one shape, as training makes them, advance together, a step at a time: requests of all clusters join
    between two steps (`browsing.engines.continuous`), in `WORKERS` threads where there are as many. Other models are
    run by one thread, one batch after another, each of one cluster (`browsing.engines.rollout`). Either way a thread
    computes at most `max_rows` paths at once, a prompt is read once for all paths of a question, and a path that ended
    is computed no further. A path depends on its request alone, but for the rounding of float sums: beside other rows a
    probability may differ by 1e-6, and a draw only where its random number lies that close to a boundary.
    """

    def __init__(
        self,
        predictors: Sequence[FilePath],
        *,
        threads: int | None = None,
        max_rows: int = 1024,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`predictors`: one Hugging Face directory per cluster. `threads`: torch's, of all workers together; by default
        as many as it has. Raises `ValueError` for no predictor or no row."""
        if not predictors or max_rows < 1:
            raise ValueError(f"{len(predictors)} predictors with {max_rows} rows: both must be at least 1")
        self._directories = list(predictors)
        self._threads = threads
        self._max_rows = max_rows
        self._dtype = dtype
        self._predictors: list[Predictor] = []
        self._llamas: Llamas | None = None
        self._workers: list[Worker] = []
        self._arrived: list[Job] = []
        self._waited: Waited | None = None

    def on_wait(self, tell: Waited) -> None:
        """`tell` hears of every request of `generate` from now on that is begun, in a worker's thread; it returns at
        once and raises nothing. Who gave up waiting is not told of, nor is a health check."""
        self._waited = tell

    async def start(self) -> None:
        """Load the predictors. Raises `EngineError` naming the first that cannot be loaded or gives no token."""
        if self._workers:
            return
        await _in_thread(self._load)
        stopping = threading.Event()
        if self._llamas is None:
            self._workers = [Worker(Rollouts(self._predictors, self._max_rows, stopping), stopping, self._threads)]
        else:
            threads = self._threads or torch.get_num_threads()
            count = min(WORKERS, threads)
            llamas = [self._llamas, *(self._llamas.twin() for _ in range(count - 1))]
            cores = [self._continuous(own, threads // count) for own in llamas]
            # They compute alone but for the steps that are worth more.
            self._workers = [Worker(core, stopping, 1) for core in cores]
        dead = [k for k, alive in (await self.healthy()).items() if not alive]
        if dead:
            await self.stop()
            raise EngineError(f"{self._directories[dead[0]]} is loaded but gives no token")

    async def generate(self, request: GenerateRequest) -> list[Path]:
        if not self._workers:
            raise EngineDown("the local engine is not running")
        self._check(request)
        job = Job(request, self._waited)
        # Handed over in the loop's next round: requests gathered in this one then reach a worker as one batch.
        self._arrived.append(job)
        asyncio.get_running_loop().call_soon(self._hand_over)
        return await _answer(job)

    def generate_batch(self, requests: Sequence[GenerateRequest]) -> list[list[Path]]:
        """The synchronous core: answer all `requests`, in order, in the calling thread; `start` is not needed.

        Not to be called while the engine is running (its workers own the models). Raises what `generate` raises.
        """
        if not self._predictors:
            self._load()
        for request in requests:
            self._check(request)
        jobs = [Job(request) for request in requests]
        core: Core
        if self._llamas is not None:
            core = self._continuous(self._llamas, self._threads)
        else:
            core = Rollouts(self._predictors, self._max_rows, threading.Event())
        core.submit(jobs)
        while core.busy:
            core.step()
        return [job.future.result() for job in jobs]

    async def healthy(self) -> dict[int, bool]:
        """An engine that is late because it works through what came before is well; one of which any worker stands
        still is not."""
        clusters = range(len(self._directories))
        return dict(zip(clusters, await asyncio.gather(*map(self._alive, clusters)), strict=True))

    async def stop(self) -> None:
        """Returns when the workers have ended: after the steps that they are at. Who does not want to wait for one that
        is stuck cancels this: its thread holds up neither the event loop's others nor the end of the process."""
        workers, self._workers = self._workers, []
        self._predictors, self._llamas = [], None
        await asyncio.gather(*(asyncio.wrap_future(worker.stop()) for worker in workers))

    async def _alive(self, cluster: int) -> bool:
        answers = await asyncio.gather(*(self._answers(cluster, worker) for worker in self._workers))
        return bool(answers) and all(answers)

    async def _answers(self, cluster: int, worker: Worker) -> bool:
        before = worker.steps
        job = Job(GenerateRequest(cluster, (BOS,), 1, 1, greedy=True, deadline=HEALTH_SECONDS))
        worker.submit([job])
        try:
            await _answer(job)
        except EngineTimeout:
            return worker.steps > before + 1  # one may have been over, and not yet counted
        except EngineError:
            return False
        return True

    def _hand_over(self) -> None:
        jobs, self._arrived = self._arrived, []
        if not self._workers:
            for job in jobs:
                job.fail(EngineError("the local engine was stopped"))
        elif jobs:
            divide(jobs, self._workers)

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

    def _continuous(self, llamas: Llamas, threads: int | None) -> Continuous:
        try:
            return Continuous(llamas, self._max_rows, threads)
        except MemoryError as error:
            raise EngineError(f"not enough memory for the predictors' keys and values: {error}") from error

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


async def _answer(job: Job) -> list[Path]:
    """Raises `EngineTimeout` after the request's deadline."""
    try:
        async with asyncio.timeout(job.request.deadline):
            return await asyncio.wrap_future(job.future)
    except TimeoutError as error:
        raise EngineTimeout(f"no complete answer within {job.request.deadline} s") from error


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
