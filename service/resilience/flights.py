"""Equal questions that are asked at the same time are worked on once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.aboard = 0


class Flights(Generic[T]):
    """The work of a key runs in a task of its own: it outlives the caller who began it, and ends with the last who
    waits for it. Nothing is kept once it is over."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: bytes) -> bool:
        """Whether a caller would join."""
        return key in self._flights

    async def join(self, key: bytes, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` returns or raises, whoever began it. `key` must say everything that `work` depends on."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(work()))
            flight.task.add_done_callback(partial(self._over, key, flight))
        flight.aboard += 1
        try:
            await asyncio.wait((flight.task,))  # unlike awaiting it, does not cancel what others wait for
            return flight.task.result()
        finally:
            flight.aboard -= 1
            if not flight.aboard and not flight.task.done():
                self._land(key, flight)  # at once: nobody may board a flight that is being called back
                flight.task.cancel()
                await asyncio.wait((flight.task,))

    def _land(self, key: bytes, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _over(self, key: bytes, flight: _Flight[T], task: asyncio.Task[T]) -> None:
        self._land(key, flight)
        if not task.cancelled():
            task.exception()  # everybody may have left; asyncio would complain about it
