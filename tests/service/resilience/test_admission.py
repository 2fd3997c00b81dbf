"""Admission against simulated engines, whose every waiting time is known."""

from __future__ import annotations

import asyncio
import heapq
import random

import pytest

from service.resilience.admission import Admission, Entrance, Overloaded, Passage
from service.resilience.latency import LatencyModel


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def admission(clock: Clock | None = None, *, most: int = 4, patient: int = 2) -> Admission:
    return Admission(2, Entrance(most=most, patient=patient), clock or Clock())


def test_a_pace_is_learned() -> None:
    clock = Clock()
    latency = LatencyModel(clock)
    assert latency.expected(100) == 0.0, "nothing is known: nobody is refused"
    for n in (0, 3, 1, 8, 5):
        clock.now += 0.01
        latency.observe(n, 0.2 + 0.05 * n)
    assert latency.expected(0) == pytest.approx(0.2)
    assert latency.expected(40) == pytest.approx(2.2)


def test_a_pace_never_falls_with_the_load_and_never_starts_below_zero() -> None:
    for points in (((0, 1.0), (4, 0.5)), ((2, 0.1), (4, 1.0))):
        latency = LatencyModel(Clock())
        for n, seconds in points:
            latency.observe(n, seconds)
        assert 0 <= latency.expected(0) <= latency.expected(10)


def test_what_is_new_counts_more() -> None:
    clock = Clock()
    latency = LatencyModel(clock)
    for _ in range(1_000):
        latency.observe(0, 9.0)
    clock.now += 60
    latency.observe(0, 0.1)
    assert latency.expected(0) < 0.2


@pytest.mark.parametrize(("servers", "seconds"), [(1, 0.02), (4, 0.05)])
def test_who_is_let_in_is_answered_in_time_and_who_is_refused_would_not_have_been(servers: int, seconds: float) -> None:
    """An engine that answers `servers` at a time, first come first served, and three times as many callers as it can
    take: it is kept busy with those that it can answer."""
    clock, draw = Clock(), random.Random(8)
    deadline = 0.5
    gate = admission(clock, most=10_000)
    free = [0.0] * servers
    finishing: list[tuple[float, int, Passage, object, float]] = []
    late = answered = 0
    wrongly = refused = 0
    soonest = 99
    for i in range(4_000):
        clock.now += draw.expovariate(3 * servers / seconds)
        now = clock.now
        while finishing and finishing[0][0] <= now:
            clock.now, _, passage, lane, came = heapq.heappop(finishing)
            passage.through()
            lane.__exit__(None, None, None)  # type: ignore[attr-defined]
            answered += 1
            late += came > 1.0 and clock.now - came > deadline  # in the first second it learns
        clock.now = now
        begins = max(now, free[0])
        lane = gate.lane(0, deadline, patient=False)
        try:
            passage = lane.__enter__()
        except Overloaded as overload:
            refused += 1
            wrongly += begins + seconds - now < 0.5 * deadline
            soonest = min(soonest, overload.retry_after)
            continue
        heapq.heapreplace(free, begins + seconds)
        heapq.heappush(finishing, (begins + seconds, i, passage, lane, now))
    assert refused > 1_500
    assert soonest == 1
    assert late / answered < 0.05
    assert wrongly / refused < 0.02
    assert answered > 0.8 * clock.now * servers / seconds, "the engine is kept busy"


def test_an_engine_that_is_too_slow_anyway_is_no_matter_of_load() -> None:
    clock = Clock()
    gate = admission(clock)
    with gate.lane(0, 1.0, patient=False) as passage:
        clock.now += 5.0
        passage.overdue()
    with gate.lane(0, 0.1, patient=False):
        pass


def test_lanes_know_nothing_of_each_other() -> None:
    clock = Clock()
    gate = admission(clock)
    for _ in range(3):
        with gate.lane(0, 9.0, patient=False) as one, gate.lane(0, 9.0, patient=False) as two:
            clock.now += 1.0
            one.through()
            clock.now += 1.0
            two.through()
    with gate.lane(0, 9.0, patient=False):
        with pytest.raises(Overloaded), gate.lane(0, 1.5, patient=False):
            pass
        with gate.lane(1, 1.5, patient=False), gate.lane(0, 1.5, patient=True):
            assert (gate.under_way(0), gate.under_way(1)) == (2, 1)
    assert (gate.under_way(0), gate.under_way(1)) == (0, 0)


def test_running_out_of_little_time_is_no_news() -> None:
    clock = Clock()
    gate = admission(clock)
    with gate.lane(0, 9.0, patient=False) as one, gate.lane(0, 9.0, patient=False) as two:
        clock.now += 1.0
        one.through()
        clock.now += 1.0
        two.through()
    for _ in range(50):
        with gate.lane(0, 0.01, patient=False) as passage:
            clock.now += 0.01
            passage.overdue()
    with gate.lane(0, 9.0, patient=False), pytest.raises(Overloaded), gate.lane(0, 1.9, patient=False):
        pass  # still two seconds


def test_the_entrance_refuses_beyond_its_limit_and_lets_the_patient_queue() -> None:
    async def scenario() -> None:
        gate = admission(most=2, patient=2)
        inside: list[str] = []
        release = asyncio.Event()

        async def visit(name: str, *, patient: bool) -> None:
            async with gate.entrance(patient=patient):
                inside.append(name)
                await release.wait()

        tasks = [asyncio.create_task(visit(f"p{i}", patient=True)) for i in range(4)]
        tasks += [asyncio.create_task(visit(f"q{i}", patient=False)) for i in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert inside == ["p0", "p1", "q0", "q1"]
        release.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ended] == [type(None)] * 6 + [Overloaded]
        assert inside[4:] == ["p2", "p3"]
        async with gate.entrance(patient=False):
            pass

    asyncio.run(scenario())
