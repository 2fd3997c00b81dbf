"""Growing pauses between attempts."""

from __future__ import annotations

from random import Random


class Backoff:
    """Every pause is twice the one before, from `first` up to `most` seconds, less a random part of up to a half, so
    that several services do not ask a server that comes back in step."""

    def __init__(self, random: Random, *, first: float = 0.2, most: float = 3.0) -> None:
        self._random = random
        self._first = first
        self._most = most
        self._pause = first

    def next(self) -> float:
        """Seconds."""
        pause = self._pause
        self._pause = min(2 * pause, self._most)
        return pause * (1 - 0.5 * self._random.random())

    def reset(self) -> None:
        self._pause = self._first
