"""Who is let in: what cannot be answered in time is refused at once, and costs those who can be answered nothing."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Literal

from service.resilience.latency import LatencyModel

Reason = Literal["full", "late"]


class Overloaded(Exception):
    """`full`: too many predictions are under way. `late`: the answer would come after its deadline, because of those in
    front of it. `retry_after`: whole seconds, at least 1."""

    def __init__(self, reason: Reason, wait: float) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.retry_after = max(1, math.ceil(wait))


class Passage:
    """One prediction on its way through an engine."""

    def __init__(self, latency: LatencyModel, ahead: int, clock: Callable[[], float]) -> None:
        self._latency = latency
        self._ahead = ahead
        self._clock = clock
        self._began = clock()

    def through(self) -> None:
        """It was answered."""
        self._latency.observe(self._ahead, self._clock() - self._began)

    def overdue(self) -> None:
        """Its time ran out: it takes at least as long, which is news only where less was expected."""
        seconds = self._clock() - self._began
        if seconds > self._latency.expected(self._ahead):
            self._latency.observe(self._ahead, seconds)


class Entrance:
    """Counts all predictions, whichever bundle they are for: at most `most` that cannot wait, and beside them `patient`
    of those that can (items of a batch), which queue."""

    def __init__(self, *, most: int, patient: int) -> None:
        self._most = most
        self._inside = 0
        self._patient = asyncio.Semaphore(patient)

    @asynccontextmanager
    async def enter(self, *, patient: bool) -> AsyncIterator[None]:
        """Raises `Overloaded` for one that cannot wait."""
        if patient:
            async with self._patient:
                yield
            return
        if self._inside >= self._most:
            raise Overloaded("full", 1.0)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


class Admission:
    """Two gates: the entrance, and behind it a lane to each cluster's engine, which compares the time that is left with
    what the engine takes, given how many it works on. `clock`: seconds that never jump."""

    def __init__(self, clusters: int, entrance: Entrance, clock: Callable[[], float] = time.monotonic) -> None:
        self._entrance = entrance
        self._clock = clock
        self._latencies = [LatencyModel(clock) for _ in range(clusters)]
        self._under_way = [0] * clusters

    def under_way(self, cluster: int) -> int:
        """Predictions that this cluster's engine works on."""
        return self._under_way[cluster]

    def entrance(self, *, patient: bool) -> AbstractAsyncContextManager[None]:
        """Raises `Overloaded` for one that cannot wait."""
        return self._entrance.enter(patient=patient)

    @contextmanager
    def lane(self, cluster: int, left: float, *, patient: bool) -> Iterator[Passage]:
        """`left`: seconds until the answer must be there. Raises `Overloaded` where it would be, were it alone, and
        will not be behind the others; one that even an idle engine is too slow for is no matter of load."""
        latency, ahead = self._latencies[cluster], self._under_way[cluster]
        if not patient and (expected := latency.expected(ahead)) > left >= latency.expected(0):
            raise Overloaded("late", expected - left)
        self._under_way[cluster] += 1
        try:
            yield Passage(latency, ahead, self._clock)
        finally:
            self._under_way[cluster] -= 1
