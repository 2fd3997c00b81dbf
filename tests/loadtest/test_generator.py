"""The generator against a server whose every latency is known, in virtual time."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from loadtest.arrivals import Span, Times, fixed
from loadtest.check import Checker, Verdict
from loadtest.client import Asker, connect
from loadtest.figures import answers, group, lag, latency
from loadtest.generator import Fate, Reply, drive, saturate
from loadtest.visitors import walks
from loadtest.workload import Options, Plan, question
from tests.loadtest.fake import PAGES, VERSION, Fake, stalled
from tests.loadtest.virtual import passing

RIGHT = Reply("200", Verdict("correct"))


def plan(times: Times, seconds: float, patience: Times | None = None) -> Plan:
    questions = tuple(
        question(visitor, i, Options()) for i, visitor in enumerate(walks(PAGES, 20, np.random.default_rng(0)))
    )
    order = np.arange(len(times), dtype=np.int64) % len(questions)
    stay = np.full(len(times), math.inf)
    span = (Span("all", 0.0, seconds, counted=True),)
    return Plan(times, span, questions, order, stay if patience is None else patience)


async def load(
    fake: Fake,
    times: Times,
    seconds: float,
    *,
    bound: int = 1_000,
    timeout: float = 30.0,
    patience: Times | None = None,
) -> list[Fate]:
    async with connect("http://service", transport=fake.transport) as client:
        own = plan(times, seconds, patience)
        asker = Asker(client, own, Checker({VERSION}, frozenset(PAGES)), timeout=timeout)
        return await drive(times, asker, bound=bound)


async def closed_loop(fake: Fake, seconds: float) -> list[float]:
    """What the mistaken client measures: the next request is sent when the last one is answered."""
    loop = asyncio.get_running_loop()
    taken: list[float] = []
    async with connect("http://service", transport=fake.transport) as client:
        questions = plan(fixed(1.0, 20.0), 20.0).questions
        while (began := loop.time()) < seconds:
            headers = {"x-request-id": "closed"}
            await client.post("/predict", content=questions[len(taken) % 20].body, headers=headers)
            taken.append(loop.time() - began)
            await asyncio.sleep(max(0.0, began + 0.1 - loop.time()))  # ten a second, it believes
    return taken


def test_a_stall_shows_that_a_closed_loop_hides() -> None:
    # Ten requests a second for 20 s, 10 ms each; from second 4.95 to 5.95 the server hangs.
    fake = Fake(delay=stalled(4.95, 1.0, 0.01))
    fates = passing(load(fake, fixed(10.0, 20.0), 20.0))
    found = latency([fate.latency for fate in fates])
    assert answers(fates).correct == found.n == 200
    # Those that were meant to start at 5.0, 5.1, ... 5.9 wait 0.96, 0.86, ... 0.06 s: one in twenty.
    waited = sorted((fate.latency for fate in fates), reverse=True)
    assert waited[:10] == pytest.approx([0.96 - 0.1 * i for i in range(10)], abs=1e-6)
    assert (found.p50, found.p95, found.p99, found.max) == pytest.approx((10.0, 10.0, 760.0, 960.0), abs=1e-3)
    hidden = latency(passing(closed_loop(Fake(delay=stalled(4.95, 1.0, 0.01)), 20.0)))
    assert (hidden.p99, hidden.max) == pytest.approx((10.0, 960.0), abs=0.01)  # it met the stall once, in 191


def test_arrivals_are_not_moved_by_a_slow_server() -> None:
    fake = Fake(delay=lambda _: 3.0)
    times = fixed(20.0, 5.0)
    fates = passing(load(fake, times, 5.0))
    assert [fate.sent for fate in fates] == pytest.approx(times.tolist(), abs=1e-6)
    assert [fate.latency for fate in fates] == pytest.approx([3.0] * 100, abs=1e-6)
    assert fake.most_at_once == 60
    assert lag(fates, 0.0, 8.0).late is False


def test_what_would_exceed_the_bound_is_a_failure_and_slows_nothing() -> None:
    fake = Fake(delay=lambda _: 2.0)
    fates = passing(load(fake, fixed(10.0, 3.0), 3.0, bound=15))
    account = answers(fates)
    # 0.0 to 1.4 are sent; 1.5 to 1.9 find 15 outstanding; from 2.0 on one is answered for each that comes.
    assert [fate.place for fate in fates if fate.reply.verdict.kind == "dropped"] == [15, 16, 17, 18, 19]
    assert (account.accepted, account.dropped) == (25, 5)
    assert [fate.latency for fate in fates if fate.reply.status == "200"] == pytest.approx([2.0] * 25, abs=1e-6)
    found = group("all", fates, (Span("all", 0.0, 3.0, counted=True),))
    assert found.latency_ms.max == pytest.approx(2000)
    assert found.latency_with_lost_ms.p99 is None  # never


def test_a_late_generator_says_so() -> None:
    fates = [Fate(i, 0.1 * i, 0.1 * i + (0.05 if i == 7 else 0.0), 0.1 * i + 0.06, RIGHT) for i in range(50)]
    found = lag(fates, 2.0, 5.0)
    assert (found.p50_ms, found.p99_ms, found.max_ms, found.cpu_share) == (0.0, 50.0, 50.0, 0.4)
    assert found.late
    assert not lag(fates[:7], 2.0, 5.0).late


def test_an_own_delay_of_the_generator_counts_as_latency() -> None:
    """Something else holds the event loop from 1.0 to 1.5."""

    async def held() -> list[Fate]:
        async def ask(place: int) -> Reply:
            await asyncio.sleep(0.02)
            return RIGHT

        async def hold() -> None:
            await asyncio.sleep(1.0)
            clock = asyncio.get_running_loop()._clock  # type: ignore[attr-defined]
            clock.now += 0.5

        holder = asyncio.create_task(hold())
        fates = await drive(fixed(10.0, 2.0) + 0.05, ask, bound=100)
        await holder
        return fates

    fates = passing(held())
    assert [round(fate.lag, 6) for fate in fates] == pytest.approx([0] * 10 + [0.45, 0.35, 0.25, 0.15, 0.05] + [0] * 5)
    assert max(fate.latency for fate in fates) == pytest.approx(0.47, abs=1e-6)
    assert lag(fates, 0.0, 2.0).late


def test_no_answer_in_time_is_lost_and_a_caller_who_leaves_is_not() -> None:
    fake = Fake(delay=lambda now: 10.0 if now < 1 else 0.01)
    patience = np.full(20, math.inf)
    patience[3] = 0.2
    fates = passing(load(fake, fixed(10.0, 2.0), 2.0, timeout=4.0, patience=patience))
    account = answers(fates)
    assert (account.lost, account.left, account.correct, account.accepted) == (9, 1, 10, 19)
    assert account.reasons == {"no answer within 4 seconds": 9}
    assert fates[0].latency == pytest.approx(4.0)
    assert fates[3].latency == pytest.approx(0.2)


def test_a_mistake_in_asking_is_no_silent_loss() -> None:
    async def ask(place: int) -> Reply:
        raise RuntimeError("a bug")

    with pytest.raises(ExceptionGroup, match="TaskGroup") as caught:
        passing(drive(fixed(10.0, 1.0), ask, bound=10))
    assert isinstance(caught.value.exceptions[0], RuntimeError)


def test_the_capacity_of_a_server_that_takes_known_times() -> None:
    async def ask(place: int) -> Reply:
        await asyncio.sleep(0.2)
        return RIGHT

    assert passing(saturate(ask, width=8, seconds=10.1)) == pytest.approx(40, rel=0.02)


def test_refusals_are_no_capacity() -> None:
    refused = Reply("429", Verdict("refused", "overloaded"))

    async def ask(place: int) -> Reply:
        await asyncio.sleep(0.05)
        return RIGHT if place % 2 else refused

    # A right answer takes 50 ms, a refusal 50 ms and as much waiting.
    assert passing(saturate(ask, width=6, seconds=30.0)) == pytest.approx(6 / 0.15, rel=0.05)
