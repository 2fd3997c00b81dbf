"""Equal questions that are asked at the same time are worked on once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Call(Generic[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiting = 0


class SingleFlight(Generic[T]):
    """The work of a key runs in a task of its own: it outlives the caller who began it, and ends with the last who
    waits for it. Nothing is kept once it is over."""

    def __init__(self) -> None:
        self._calls: dict[bytes, _Call[T]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, key: bytes) -> bool:
        """Whether a caller would join."""
        return key in self._calls

    async def join(self, key: bytes, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` returns or raises, whoever began it. `key` must say everything that `work` depends on."""
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(asyncio.create_task(work()))
            call.task.add_done_callback(partial(self._done, key, call))
        call.waiting += 1
        try:
            await asyncio.wait((call.task,))  # unlike awaiting it, does not cancel what others wait for
            return call.task.result()
        finally:
            call.waiting -= 1
            if not call.waiting and not call.task.done():
                self._forget(key, call)  # at once: nobody may join one that is being cancelled
                call.task.cancel()
                await asyncio.wait((call.task,))

    def _forget(self, key: bytes, call: _Call[T]) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]

    def _done(self, key: bytes, call: _Call[T], task: asyncio.Task[T]) -> None:
        self._forget(key, call)
        if not task.cancelled():
            task.exception()  # everybody may have left; asyncio would complain about it
