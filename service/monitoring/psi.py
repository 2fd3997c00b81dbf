"""The population stability index, and how much of it is chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shift:
    """`noise`: the index that two samples of one distribution would have on average."""

    psi: float
    noise: float


def psi(expected: Sequence[float], actual: Sequence[float]) -> float:
    """sum over bins of (actual - expected) ln(actual / expected), in nats: Jeffreys' divergence of two distributions.

    By custom below 0.1 is no shift, above 0.25 a major one. Infinite where only one of the two has a bin; a bin that
    neither has is none.
    """
    total = 0.0
    for p, q in zip(expected, actual, strict=True):
        if p == q:
            continue
        if p == 0 or q == 0:
            return math.inf
        total += (q - p) * math.log(q / p)
    return total


def smoothed(shares: Sequence[float], size: float) -> list[float]:
    """`shares` of `size` observations with half an observation more in every bin (Krichevsky and Trofimov), so that a
    bin that was merely not seen yet does not make the index infinite."""
    total = size + len(shares) / 2
    return [(share * size + 0.5) / total for share in shares]


def noise(bins: int, expected_size: float, actual_size: float) -> float:
    """The index to expect of two samples of one distribution: (B - 1) (1/N + 1/n). The index over (1/N + 1/n) is
    asymptotically chi-squared with B - 1 degrees of freedom (Yurdakul 2018)."""
    return (bins - 1) * (1 / expected_size + 1 / actual_size)


def compare(expected: Sequence[float], expected_size: float, actual: Sequence[float], actual_size: float) -> Shift:
    """Both as shares; bins that both lack are left out."""
    kept = [(p, q) for p, q in zip(expected, actual, strict=True) if p or q]
    before = smoothed([p for p, _ in kept], expected_size)
    after = smoothed([q for _, q in kept], actual_size)
    return Shift(psi(before, after), noise(len(kept), expected_size, actual_size))
