"""Merging clusters that explain the same users, so that K settles from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from training.owners import Floats, Ints, summed_by_user, within_one_error

PAIRS = 3
"""Most alike pairs that are tried per round."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Places of two clusters, first < second, and how alike they are: see `likeness`."""

    first: int
    second: int
    likeness: float


def likeness(nats: Floats, own: Ints) -> Floats:
    """How little it costs users to be explained by another cluster: float64 [K, K], symmetric, larger is more alike.

    For clusters i and j it is minus the mean cost in nats, over the users of either, of being explained by the
    other one. `nats` [N, K] of whole sequences; `own` [N]. The diagonal is minus infinity, as is a pair without users.
    """
    K = nats.shape[1]
    extra, sizes = np.zeros((K, K)), np.zeros(K)
    for k in range(K):
        mine = nats[own == k]
        sizes[k] = len(mine)
        extra[k] = (mine - mine[:, k : k + 1]).sum(0) if len(mine) else 0.0
    both = sizes[:, None] + sizes[None]
    alike: Floats = -(extra + extra.T) / np.maximum(both, 1)
    alike[both == 0] = -np.inf
    np.fill_diagonal(alike, -np.inf)
    return alike


def likeliest(nats: Floats, own: Ints, pairs: int = PAIRS) -> list[Pair]:
    """The pairs that are most alike, most alike first."""
    alike = likeness(nats, own)
    places = [(i, j) for i in range(len(alike)) for j in range(i + 1, len(alike)) if np.isfinite(alike[i, j])]
    ordered = sorted(places, key=lambda p: (-alike[p], p))
    return [Pair(i, j, float(alike[i, j])) for i, j in ordered[:pairs]]


def average(models: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of models' parameters. They were tuned from one predictor and lie in one basin."""
    total = sum(shares)
    return {
        name: sum((m[name] * (s / total) for m, s in zip(models, shares, strict=True)), start=models[0][name] * 0.0)
        for name in models[0]
    }


def costs_nothing(before: Floats, after: Floats, owner: Ints) -> bool:
    """Whether samples' losses [N] after a change cannot be told from those before: the mean difference over their users
    `owner` [N] is at most one standard error above zero. Of fewer than two users nothing is known, and nothing merged.
    """
    difference = summed_by_user(after - before, owner)
    return len(difference) > 1 and bool(within_one_error(difference))
