"""Between the shared and the specialised: each cluster's predictor is moved towards the better of the shared predictor
and the single one that was fine-tuned on everybody, as far as held-out users show that this is better.

    theta_k <- base + lambda (theta_k - base),    lambda from 0 (base alone) to 1 (as tuned)

All were tuned from one predictor, so that the line between their weights stays in one basin. What is served is still
one plain model per cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from training.batches import Example
from training.hetlm.keeping import Version
from training.owners import Floats, Ints, summed_by_user, users_among, within_one_error
from training.predictors import Weights, load_weights
from training.scoring import target_nats

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0)
FEW = 100
"""Clusters with fewer selection users than this choose one lambda together."""


@dataclass(frozen=True, slots=True, eq=False)
class Interpolated:
    """The clusters' final versions and lambdas, and the base's name ("shared" or "single")."""

    versions: list[Version]
    lambdas: list[float]
    base: str


def interpolate(
    model: nn.Module,
    versions: Sequence[Version],
    bases: Sequence[Version],
    own: Ints,
    select: Sequence[Example],
    owner: Ints,
    advance: Callable[[float], None] = lambda n: None,
) -> Interpolated:
    """Choose every cluster's lambda on the selection users' samples, [S] of clusters `own` and users `owner`. `model`
    lends its architecture.

    The base is the one with the lowest loss on all of them. Without selection users the versions stay as they are.
    """
    if not len(select):
        return Interpolated(list(versions), [1.0] * len(versions), bases[0].name)
    base = min(bases, key=lambda version: float(version.nats.sum()))
    curves = [_curve(model, version, base, select, advance) for version in versions]
    lambdas = choose(curves, own, owner)
    chosen = [
        _at(version, base, value, curve[:, LAMBDAS.index(value)])
        for version, curve, value in zip(versions, curves, lambdas, strict=True)
    ]
    return Interpolated(chosen, lambdas, base.name)


def choose(nats: Sequence[Floats], own: Ints, owner: Ints, few: int = FEW) -> list[float]:
    """Each cluster's lambda. `nats[k]`: float64 [S, lambdas], all selection samples under cluster k at each lambda;
    `own`, `owner` [S]: their clusters and users.

    One-standard-error rule: the smallest lambda whose mean loss is at most one standard error of the paired difference
    above the best one's, over users, who may have several samples. Clusters of fewer than `few` users are pooled; a
    user whose samples are of several clusters is one of each.
    """
    users = [users_among(owner[own == k]) for k in range(len(nats))]
    groups = [[k] for k, number in enumerate(users) if number >= few]
    if small := [k for k, number in enumerate(users) if number < few]:
        groups.append(small)
    lambdas = [0.0] * len(nats)
    for group in groups:
        losses = np.concatenate([nats[k][own == k] for k in group])
        by_user = summed_by_user(losses, np.concatenate([owner[own == k] for k in group]))
        for k in group:
            lambdas[k] = LAMBDAS[_smallest(by_user)]
    return lambdas


def _smallest(losses: Floats) -> int:
    """The first column of `losses` [users, lambdas] that cannot be told from the best; 0 for fewer than two users."""
    if len(losses) < 2:
        return 0
    best = int(losses.mean(0).argmin())
    return int(np.flatnonzero(within_one_error(losses - losses[:, best : best + 1]))[0])


def _curve(
    model: nn.Module, version: Version, base: Version, select: Sequence[Example], advance: Callable[[float], None]
) -> Floats:
    """The selection samples' nats at every lambda, float64 [S, lambdas]. No weights are kept."""
    columns = []
    for value in LAMBDAS:
        if value == 0.0 or version.name == base.name:
            columns.append(base.nats)
        elif value == 1.0:
            columns.append(version.nats)
        else:
            load_weights(model, between(base.weights, version.weights, value))
            columns.append(target_nats(model, [e.pair for e in select], advance=advance)[0])
    return np.stack(columns, 1)


def _at(version: Version, base: Version, value: float, nats: Floats) -> Version:
    if value == 0.0 or version.name == base.name:
        return base
    if value == 1.0:
        return version
    return Version(f"{version.name} x {value:g}", version.epoch, between(base.weights, version.weights, value), nats)


def between(base: Weights, tuned: Weights, share: float) -> Weights:
    """base + share (tuned - base), parameter by parameter."""
    return {name: weight + share * (tuned[name] - weight) for name, weight in base.items()}
