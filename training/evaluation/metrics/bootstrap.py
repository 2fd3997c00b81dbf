"""Intervals by resampling users: how far a figure would move had other users of the same kind been evaluated.

Several next sessions of one user are drawn together, because they are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from training.evaluation.metrics.pages import Floats, Ints

RESAMPLES = 1000
LEVEL = 0.95
CHUNK = 50
"""Resamples held at once: their weights take 8 bytes per resample and session."""
DEFINED = 0.95
"""A figure that is undefined in more of the resamples than the rest (an AUC without a positive) has no interval."""


def groups_of(users: list[str]) -> Ints:
    """[N]: the number of every sample's user, from 0, in the order of appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(user, len(numbers)) for user in users], np.int64)


def resampled(groups: Ints, resamples: int, seed: int) -> Iterator[Floats]:
    """Weights [R, N] in pieces of at most `CHUNK` rows, `resamples` rows in all: how often each sample was drawn.

    `groups` [N]: the number of each sample's user. Weights in the place of copied samples: a figure that is a sum over
    samples then costs one matrix product for all resamples.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, 0xB007]))
    users = int(groups.max()) + 1
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = generator.integers(users, size=(rows, users)) + np.arange(rows)[:, None] * users
        counts = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        yield counts[:, groups].astype(np.float64)


def interval(values: Floats) -> tuple[float, float] | None:
    """The percentile interval of a figure over its resamples [R]; none where too many of them are undefined (NaN)."""
    known = values[np.isfinite(values)]
    if not len(values) or len(known) < DEFINED * len(values):
        return None
    low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
