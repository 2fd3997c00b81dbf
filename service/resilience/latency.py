"""How long an answer takes, given how many others are under way: learned from the last few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

HALF_LIFE = 3.0
"""Seconds after which an observation counts half."""


class LatencyModel:
    """A straight line, seconds = base + slope * n, with n the predictions under way when one began: the least-squares
    fit to recent ones, the newer the heavier.

    An engine that answers in batches has a small slope, one that answers one after another a slope as large as its
    base; both are learned rather than assumed. Nothing known means no wait. `clock`: seconds that never jump.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._weight = self._n = self._s = self._nn = self._ns = 0.0

    def observe(self, ahead: int, seconds: float) -> None:
        """One that found `ahead` under way was answered after `seconds`."""
        now = self._clock()
        keep = 0.5 ** ((now - self._last) / HALF_LIFE)
        self._last = now
        self._weight = keep * self._weight + 1
        self._n = keep * self._n + ahead
        self._s = keep * self._s + seconds
        self._nn = keep * self._nn + ahead * ahead
        self._ns = keep * self._ns + ahead * seconds

    def expected(self, ahead: int) -> float:
        """Seconds that one would take which finds `ahead` under way."""
        if not self._weight:
            return 0.0
        n, s = self._n / self._weight, self._s / self._weight
        spread = self._nn / self._weight - n * n
        slope = (self._ns / self._weight - n * s) / spread if spread > 0.05 else 0.0
        slope = min(max(slope, 0.0), s / n if n else 0.0)  # neither slope nor base is below 0
        return s + slope * (ahead - n)
