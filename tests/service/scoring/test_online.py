"""Who waits for whom, with a clock that the test moves."""

from __future__ import annotations

import asyncio

from service.scoring.online import Online


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Rows:
    """Rows of a file that ask for their turns; each ends when it is told to."""

    def __init__(self, online: Online, count: int) -> None:
        self.begun: list[int] = []
        self.has_begun = [asyncio.Event() for _ in range(count)]
        self._ends = [asyncio.Event() for _ in range(count)]
        self.tasks = [asyncio.ensure_future(self._row(online, i)) for i in range(count)]

    async def _row(self, online: Online, number: int) -> None:
        async with online.turn():
            self.begun.append(number)
            self.has_begun[number].set()
            await self._ends[number].wait()

    async def end(self, number: int) -> None:
        self._ends[number].set()
        await settle()


def test_with_nobody_online_rows_run_side_by_side() -> None:
    async def scenario() -> None:
        rows = Rows(Online(patience=60), 3)
        await settle()
        assert rows.begun == [0, 1, 2]
        for number in range(3):
            await rows.end(number)

    asyncio.run(scenario())


def test_rows_wait_for_a_quiet_moment_and_then_go_one_by_one() -> None:
    async def scenario() -> None:
        clock = Clock()
        online = Online(patience=60, calm=3, clock=clock)
        with online.request():
            rows = Rows(online, 3)
            await settle()
            assert (rows.begun, online.requests) == ([], 1)
        await settle()
        assert rows.begun == [0], "somebody was online a moment ago"
        await rows.end(0)
        assert rows.begun == [0, 1]
        with online.request():
            await rows.end(1)
            assert rows.begun == [0, 1], "the next one waits again"
        await settle()
        assert rows.begun == [0, 1, 2]
        await rows.end(2)
        clock.now += 3
        more = Rows(online, 3)
        await settle()
        assert more.begun == [0, 1, 2], "it is calm again"
        for number in range(3):
            await more.end(number)

    asyncio.run(scenario())


def test_two_requests_are_over_when_both_are() -> None:
    async def scenario() -> None:
        online = Online(patience=60)
        with online.request():
            with online.request():
                rows = Rows(online, 1)
                await settle()
            await settle()
            assert rows.begun == []
        await settle()
        assert rows.begun == [0]
        await rows.end(0)

    asyncio.run(scenario())


def test_rows_do_not_starve_however_busy_it_is() -> None:
    async def scenario() -> None:
        online = Online(patience=0.01)
        with online.request():  # never ends
            rows = Rows(online, 3)
            for number in range(3):
                await rows.has_begun[number].wait()
                await asyncio.sleep(0.03)
                assert rows.begun == list(range(number + 1)), "one at a time"
                await rows.end(number)
        assert online.waited > 0

    asyncio.run(scenario())


def test_a_row_that_is_given_up_while_it_waits_leaves_its_place() -> None:
    async def scenario() -> None:
        online = Online(patience=60)
        with online.request():
            rows = Rows(online, 2)
            await settle()
            rows.tasks[0].cancel()
            await settle()
        await settle()
        assert rows.begun == [1]
        await rows.end(1)

    asyncio.run(scenario())
