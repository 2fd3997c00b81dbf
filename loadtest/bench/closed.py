"""A closed loop: so many callers, each of whom asks again as soon as it has its answer.

The number of requests under way is what a benchmark of engines varies, and what `loadtest`'s open loop leaves to the
server: throughput at a concurrency is defined by callers that wait. Latencies are those at that concurrency, and say
nothing about a service under arrivals that do not wait; `python -m loadtest steady` measures those.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """One request and what came of it. `seconds`: from asking to having the answer."""

    number: int
    seconds: float
    reply: T


@dataclass(frozen=True, slots=True)
class Loop(Generic[T]):
    """`seconds`: from the first question to the last answer."""

    asked: list[Timed[T]]
    seconds: float


async def closed(callers: Sequence[Callable[[int], Awaitable[T]]], numbers: Sequence[int]) -> Loop[T]:
    """Ask every one of `numbers`, as many at once as there are `callers`. The first error ends it, and is raised."""
    waiting = iter(numbers)
    asked: list[Timed[T]] = []

    async def one(call: Callable[[int], Awaitable[T]]) -> None:
        for number in waiting:
            began = time.perf_counter()
            reply = await call(number)
            asked.append(Timed(number, time.perf_counter() - began, reply))

    start = time.perf_counter()
    tasks = [asyncio.create_task(one(call)) for call in callers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Loop(asked, time.perf_counter() - start)
