"""Counts that forget: the last hours' distribution in the memory of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

_HIGHEST = 32.0
"""Half-lives after which the weights are scaled back."""


class DecayingCounts:
    """`size` sums over observations, each of which weighs half as much after every `half_life` (seconds).

    Forward decay (Cormode et al. 2009): instead of shrinking what is old, newer observations get larger weights, so
    that one costs the same whatever `size` is. While nothing comes, shares and effective size stay as they are.
    `clock`: seconds that never jump.
    """

    __slots__ = ("_clock", "_half_life", "_landmark", "_squares", "_sums", "_total")

    def __init__(self, size: int, half_life: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._half_life = half_life
        self._clock = clock
        self._landmark = clock()
        self._sums = [0.0] * size
        self._total = 0.0
        self._squares = 0.0

    def add(self, amounts: Iterable[tuple[int, float]]) -> None:
        """One observation: bins, and how much of it is in each."""
        weight = self._weight()
        for place, amount in amounts:
            self._sums[place] += weight * amount
        self._total += weight
        self._squares += weight * weight

    def _weight(self) -> float:
        now = self._clock()
        exponent = (now - self._landmark) / self._half_life
        if exponent > _HIGHEST:
            scale = 2.0**-exponent  # 0 after a very long silence: nothing is left of what was before
            self._sums = [own * scale for own in self._sums]
            self._total *= scale
            self._squares *= scale * scale
            self._landmark, exponent = now, 0.0
        return float(2.0**exponent)

    @property
    def effective_size(self) -> float:
        """How many equally weighted observations would say as much: (sum w)^2 / sum w^2 (Kish)."""
        return self._total * self._total / self._squares if self._squares else 0.0

    def means(self) -> list[float]:
        """Per bin its mean amount per observation: shares, where each observation's amounts sum to 1. Raises
        `ZeroDivisionError` before the first."""
        return [own / self._total for own in self._sums]
