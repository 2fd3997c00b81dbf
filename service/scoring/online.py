"""Online requests come first: work on files waits for quiet moments, and never for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager


class Online:
    """Knows the online requests under way, and gives rows of files their turns between them.

    While nobody is online, rows run side by side, as many as their caller starts. Once a request was seen within
    `calm` seconds, they run one at a time, each begun when no request is under way; a row that has waited `patience`
    seconds for such a moment runs all the same, so that a file always moves on. For one event loop.
    """

    def __init__(
        self, *, patience: float = 1.0, calm: float = 3.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience = patience
        self._calm = calm
        self._clock = clock
        self._requests = 0
        self._last: float | None = None
        self._quiet = _set_event()
        self._rows = 0
        self._idle = _set_event()
        self._door = asyncio.Lock()
        self.waited = 0.0
        """Seconds that rows have waited for their turns, all together."""

    @property
    def requests(self) -> int:
        """Under way now."""
        return self._requests

    @contextmanager
    def request(self) -> Iterator[None]:
        """An online request, from here to the end of the block."""
        self._requests += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._requests -= 1
            self._last = self._clock()
            if self._requests == 0:
                self._quiet.set()

    async def quiet(self) -> None:
        """Returns in a moment without online requests."""
        await self._quiet.wait()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A row's turn: waits for it, holds it until the end of the block."""
        arrived = self._clock()
        async with self._door:  # in the order of arrival
            await self._wait()
            self._rows += 1
            self._idle.clear()
        self.waited += self._clock() - arrived
        try:
            yield
        finally:
            self._rows -= 1
            if self._rows == 0:
                self._idle.set()

    async def _wait(self) -> None:
        until = self._clock() + self._patience
        while True:
            while self._crowded and self._rows:
                await self._idle.wait()
            left = until - self._clock()
            if not self._requests or left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._quiet.wait()
            except TimeoutError:
                continue  # the patience is over: the next round lets the row in

    @property
    def _crowded(self) -> bool:
        return self._requests > 0 or (self._last is not None and self._clock() - self._last < self._calm)


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
