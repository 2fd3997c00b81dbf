"""The port of an engine that has a queue of its own, in this process, and tells how long requests stand in it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from browsing.engines.job import Waited


@runtime_checkable
class Queueing(Protocol):
    def on_wait(self, tell: Waited) -> None:
        """`tell` is called for every request that is begun, perhaps in another thread. It returns at once and raises
        nothing. To be said before the engine is started."""
