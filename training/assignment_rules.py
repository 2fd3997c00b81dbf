"""What clustering bought: the selection users' loss when the same predictors are assigned by different rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Some rule's groups: int64 [N] of the training users, [S] of the selection users."""

    train: Ints
    select: Ints


def losses_by_rule(
    train: Floats, select: Floats, tokens: Ints, served: Ints, shares: Floats, rules: Mapping[str, Labels]
) -> dict[str, float]:
    """Nats per page of the selection users' next sessions, by rule of assignment.

    `train` [N, K], `select` [S, K]: nats of next sessions under every predictor; `tokens` [S]; `served` [S]: clusters
    that the selector gives; `shares` [K]: of the training users. `random` is the expectation over users drawn into
    clusters of these shares; `oracle` picks each user's best predictor in hindsight, which nobody can. A rule's group
    is given the predictor that explains the group's training users best.
    """
    total = max(int(tokens.sum()), 1)
    every = np.arange(len(select))
    losses = {
        "random": float((select @ (shares / shares.sum())).sum()) / total,
        "selector": float(select[every, served].sum()) / total,
        "oracle": float(select.min(1).sum()) / total,
    }
    for name, labels in rules.items():
        predictor = best_predictors(train, labels.train)
        own = np.array([predictor.get(int(g), int(shares.argmax())) for g in labels.select], np.int64)
        losses[name] = float(select[every, own].sum()) / total
    return losses


def best_predictors(train: Floats, groups: Ints) -> dict[int, int]:
    """For every group among `groups` [N], the cluster whose predictor has the lowest loss `train` [N, K] on it."""
    return {int(g): int(train[groups == g].sum(0).argmin()) for g in np.unique(groups)}
