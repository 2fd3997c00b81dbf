"""The port of an engine that has a queue of its own, in this process, and tells how long requests stand in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

Waited = Callable[[int, float], None]
"""Takes the cluster of a request that is begun, and the seconds for which it waited."""


def unheard(_: int, __: float) -> None:
    """Is told where nobody has asked to be."""


@runtime_checkable
class Queueing(Protocol):
    def on_wait(self, tell: Waited) -> None:
        """`tell` is called for every request that is begun, perhaps in another thread. It returns at once and raises
        nothing. To be said before the engine is started."""
