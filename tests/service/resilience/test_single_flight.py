"""Equal questions at the same time: computed once, and everybody gets the answer to their own."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import partial

import pytest

from service.resilience.single_flight import SingleFlight
from tests.loadtest.virtual import passing


class Work:
    """Counts what is begun, finished and given up, per key."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.begun: Counter[bytes] = Counter()
        self.finished: Counter[bytes] = Counter()
        self.given_up: Counter[bytes] = Counter()

    async def __call__(self, key: bytes) -> str:
        self.begun[key] += 1
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.given_up[key] += 1
            raise
        self.finished[key] += 1
        return f"the answer to {key.decode()}"


def test_those_who_ask_at_once_share_and_those_who_come_later_do_not() -> None:
    async def scenario() -> None:
        calls, work = SingleFlight[str](), Work()
        keys = [b"%d" % (i % 3) for i in range(9)]
        answers = await asyncio.gather(*(calls.join(key, partial(work, key)) for key in keys))
        assert answers == [f"the answer to {i % 3}" for i in range(9)]
        assert work.begun == {b"0": 1, b"1": 1, b"2": 1}
        assert len(calls) == 0
        await calls.join(b"0", lambda: work(b"0"))
        assert work.begun[b"0"] == 2

    passing(scenario())


def test_the_first_may_leave() -> None:
    async def scenario() -> None:
        calls, work = SingleFlight[str](), Work(0.05)
        first, second = (asyncio.create_task(calls.join(b"a", lambda: work(b"a"))) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == "the answer to a"
        assert first.cancelled()
        assert work.begun == work.finished == {b"a": 1}

    passing(scenario())


def test_the_last_who_leaves_takes_the_work_along_and_nobody_joins_it_any_more() -> None:
    async def scenario() -> None:
        calls, work = SingleFlight[str](), Work(0.05)
        leaving = [asyncio.create_task(calls.join(b"a", lambda: work(b"a"))) for _ in range(2)]
        await asyncio.sleep(0.01)
        for task in leaving:
            task.cancel()
        late = asyncio.create_task(calls.join(b"a", lambda: work(b"a")))
        await asyncio.gather(*leaving, return_exceptions=True)
        assert await late == "the answer to a"
        assert work.given_up[b"a"] <= 1
        alone = asyncio.create_task(calls.join(b"b", lambda: work(b"b")))
        await asyncio.sleep(0.01)
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)
        assert work.given_up[b"b"] == 1, "when the last one is gone, so is the work"
        assert len(calls) == 0

    passing(scenario())


def test_all_learn_of_a_failure_and_the_next_tries_again() -> None:
    async def scenario() -> None:
        calls = SingleFlight[str]()

        async def fail() -> str:
            await asyncio.sleep(0)
            raise KeyError("a")

        ended = await asyncio.gather(*(calls.join(b"a", fail) for _ in range(3)), return_exceptions=True)
        assert [type(end) for end in ended] == [KeyError] * 3
        assert b"a" not in calls
        with pytest.raises(KeyError):
            await calls.join(b"a", fail)

    passing(scenario())


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_random_cancellations_leave_everybody_elses_answer_alone(seed: int) -> None:
    async def scenario() -> None:
        draw = random.Random(seed)
        calls, work = SingleFlight[str](), Work(0.004)
        answered = left = 0

        async def ask() -> None:
            nonlocal answered
            key = b"%d" % draw.randrange(20)
            await asyncio.sleep(draw.random() * 0.02)
            assert await calls.join(key, lambda: work(key)) == f"the answer to {key.decode()}"
            answered += 1

        while left < 1_000:
            tasks = [asyncio.create_task(ask()) for _ in range(100)]
            for task in tasks:
                asyncio.get_running_loop().call_later(draw.random() * 0.03, task.cancel)
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ended), ended
            left += sum(end is not None for end in ended)
        assert answered
        assert len(calls) == 0
        assert work.begun.total() == work.finished.total() + work.given_up.total()

    passing(scenario())
