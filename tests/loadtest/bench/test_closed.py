"""The closed loop: every number once, never more at once than there are callers."""

from __future__ import annotations

import asyncio

import pytest

from loadtest.bench.closed import closed
from loadtest.bench.errors import BenchError


def test_every_number_is_asked_once() -> None:
    under_way, most = 0, 0

    async def ask(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001 * (number % 3))
        under_way -= 1
        return -number

    loop = asyncio.run(closed([ask] * 4, range(10, 41)))
    assert sorted(timed.number for timed in loop.asked) == list(range(10, 41))
    assert all(timed.reply == -timed.number for timed in loop.asked)
    assert most == 4
    assert max(timed.seconds for timed in loop.asked) <= loop.seconds


def test_the_first_error_ends_it() -> None:
    asked = []

    async def ask(number: int) -> None:
        asked.append(number)
        await asyncio.sleep(0)
        if number == 2:
            raise BenchError("no")

    with pytest.raises(BenchError, match="no"):
        asyncio.run(closed([ask] * 2, range(1_000)))
    assert len(asked) < 10
