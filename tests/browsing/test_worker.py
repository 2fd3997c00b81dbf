"""The embedded engine's threads: who gets which question, and what becomes of the questions of one that ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from browsing.engine import EngineDown, EngineError, GenerateRequest, Path
from browsing.engines.job import Job
from browsing.engines.worker import Worker, divide
from browsing.vocabulary import BOS, EOS


class Holding:
    """A core that answers nothing before `gate` opens."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.given: list[Job] = []
        self._open: list[Job] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        self.given += jobs
        self._open += jobs

    @property
    def busy(self) -> bool:
        return bool(self._open)

    def step(self) -> None:
        assert self.gate.wait(60)
        answered, self._open = self._open, []
        for job in answered:
            for sample in range(job.request.samples):
                job.add(sample, Path((EOS,), np.zeros((1, 0)), True))

    def fail_all(self, error: Exception) -> None:
        for job in self._open:
            job.fail(error)


class Bomb(BaseException):
    """What no worker expects: not even an `Exception`."""


class Exploding(Holding):
    def step(self) -> None:
        raise Bomb


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def job(samples: int, *prompt: int, cluster: int = 0) -> Job:
    return Job(GenerateRequest(cluster, (*prompt, BOS), samples, 1, deadline=60.0))


def test_a_question_goes_whole_to_whoever_has_least_to_do(gate: threading.Event) -> None:
    stopping = threading.Event()
    cores = [Holding(gate), Holding(gate)]
    workers = [Worker(core, stopping, 1) for core in cores]
    first, again, other = job(4, 5), job(3, 5), job(1, 6)
    divide([first, other, again], workers)
    assert [worker.load(0) for worker in workers] == [7 / 2, 1 / 2]
    divide([job(2, 7)], workers)
    divide([job(5, 8)], workers)
    assert [worker.load(0) for worker in workers] == [7 / 2, 8 / 2]
    gate.set()
    assert [len(own.future.result(60)) for own in (first, again, other)] == [4, 3, 1]
    for worker in workers:
        worker.stop().result(60)
    assert [worker.load(0) for worker in workers] == [0, 0]
    assert cores[0].given == [first, again]


def test_a_cluster_gathers_where_it_is_unless_the_other_has_far_less_to_do(gate: threading.Event) -> None:
    stopping = threading.Event()
    cores = [Holding(gate), Holding(gate)]
    workers = [Worker(core, stopping, 1) for core in cores]
    ones, twos = [job(4, k) for k in range(4)], [job(4, k, cluster=1) for k in range(4, 7)]
    divide([ones[0], twos[0]], workers)  # nobody has anything to do: one each
    divide([twos[1]], workers)
    divide([ones[1]], workers)
    divide([ones[2]], workers)
    divide([twos[2]], workers)
    assert [worker.load(0) for worker in workers] == [6, 12], "three of each cluster's together"
    for number in range(7, 15):
        divide([job(4, number)], workers)  # from here on one cluster's alone
    assert [worker.load(0) for worker in workers] == [36 / 2, 12 + 8 / 2]
    gate.set()
    for worker in workers:
        worker.stop().result(60)
    assert cores[0].given[:3] == ones[:3]
    assert cores[1].given[:3] == twos


def test_who_gives_up_is_load_no_longer(gate: threading.Event) -> None:
    worker = Worker(Holding(gate), threading.Event(), 1)
    given_up, kept = job(3, 5), job(2, 5)
    worker.submit([given_up, kept])
    given_up.future.cancel()
    assert worker.load(1) == 2
    gate.set()
    worker.stop().result(60)


def test_stopping_one_stops_all_that_share_its_event_and_fails_what_waits(gate: threading.Event) -> None:
    stopping = threading.Event()
    workers = [Worker(Holding(gate), stopping, 1) for _ in range(2)]
    waiting = [job(1, 5), job(1, 6)]
    for worker, own in zip(workers, waiting, strict=True):
        worker.submit([own])
    ended = [worker.stop() for worker in workers]
    gate.set()
    for end in ended:
        end.result(60)
    late = job(1, 5)
    workers[0].submit([late])
    with pytest.raises(EngineError):
        late.future.result(60)


def test_a_worker_that_dies_says_so_to_all_that_it_was_and_is_given(gate: threading.Event) -> None:
    worker = Worker(Exploding(gate), threading.Event(), 1)
    for _ in range(2):  # those that were with it, and those that come later
        own = job(2, 5)
        worker.submit([own])
        with pytest.raises(EngineDown, match="died"):
            own.future.result(60)
    assert worker.load(0) == 0
    worker.stop().result(60)
