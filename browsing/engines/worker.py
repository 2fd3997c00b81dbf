"""The embedded engine's threads: each owns a core, and makes one step after another as long as there is work."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue

from browsing.engine import EngineDown, EngineError
from browsing.engines.job import Core, Job
from browsing.threads import keep_to


def advance(core: Core) -> None:
    """A worker's every step: the one place at which it computes."""
    core.step()


class Worker:
    """A thread that owns a core, and its queue. `steps`: so many has it made."""

    def __init__(self, core: Core, stopping: threading.Event, threads: int | None) -> None:
        """`stopping`: ends it, and all that share it. `threads`: of torch, in this one; by default as it is."""
        self.steps = 0
        self._core = core
        self._threads = threads
        self._paths: Counter[int] = Counter()  # by cluster, those that it was given and has not answered
        self._counting = threading.Lock()
        self._queue: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._stopping = stopping
        self._dead = threading.Event()
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # who gives up waiting for it does not end it
        threading.Thread(target=self._run, name="hetlm-local-engine", daemon=True).start()

    def submit(self, jobs: list[Job]) -> None:
        for job in jobs:
            cluster, paths = job.request.cluster, job.request.samples
            self._count(cluster, paths)
            job.future.add_done_callback(partial(self._counted_out, cluster, paths))
        self._queue.put(jobs)
        if self._dead.is_set():  # looked at after the put: whichever side comes second finds the jobs
            self._fail_waiting(EngineDown("the local engine's worker has died"))

    def load(self, cluster: int) -> float:
        """What a question of this cluster would find: paths that are not answered, its own cluster's at half their
        number, since their rows are one product."""
        with self._counting:
            return self._paths.total() - self._paths[cluster] / 2

    def stop(self) -> Future[None]:
        """Fail what is waiting or running; the future is done when the thread has nothing left to do."""
        self._stopping.set()
        self._queue.put(None)
        return self._ended

    def _count(self, cluster: int, paths: int) -> None:
        with self._counting:
            self._paths[cluster] += paths

    def _counted_out(self, cluster: int, paths: int, _: Future[object]) -> None:
        self._count(cluster, -paths)

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


def divide(jobs: Sequence[Job], workers: Sequence[Worker]) -> None:
    """Each question to the worker with the least to do, where much to do of its own cluster counts for less: a product
    takes 64 rows in less time than twice 32. Jobs with the same prompt go together, for whoever has read it once
    computes once what their paths have in common."""
    if len(workers) == 1:
        workers[0].submit(list(jobs))
        return
    questions: dict[tuple[int, tuple[int, ...]], list[Job]] = {}
    for job in jobs:
        questions.setdefault((job.request.cluster, job.request.prompt), []).append(job)
    for (cluster, _), question in questions.items():
        min(workers, key=lambda worker: worker.load(cluster)).submit(question)
