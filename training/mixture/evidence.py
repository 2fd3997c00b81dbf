"""What users' own sequences say about their clusters: log-likelihoods under every predictor, and the posterior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp, softmax
from torch import nn

from training.batches import Example, collate
from training.owners import Floats, Ints
from training.scoring import token_nats

TEMPERS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
"""Powers of the likelihood among which validation chooses. 1 is Bayes' rule. Predictors are not the truth, and are a
little better on whom they were trained on: both make Bayes' rule too sure."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Negative log-likelihoods in nats, float64 [N, K] each: of the users' histories and of their next sessions."""

    history: Floats
    target: Floats

    @property
    def whole(self) -> Floats:
        return self.history + self.target

    def merged(self, clusters: Sequence[int], replaced: int, column: Evidence) -> Evidence:
        """Only `clusters`, with the column of place `replaced` among them exchanged for the one of `column` [N, 1]."""
        history, target = self.history[:, list(clusters)].copy(), self.target[:, list(clusters)].copy()
        history[:, replaced], target[:, replaced] = column.history[:, 0], column.target[:, 0]
        return Evidence(history, target)


@torch.no_grad()
def read(
    predictors: Sequence[nn.Module],
    examples: Sequence[Example],
    batch_size: int = 32,
    advance: Callable[[float], None] = lambda n: None,
) -> Evidence:
    """Score all tokens of every user under every predictor; `advance(n)` is told of users times predictors."""
    device = next(predictors[0].parameters()).device
    history, target = (np.zeros((len(examples), len(predictors))) for _ in range(2))
    order = np.argsort([len(e.ids) for e in examples], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = collate(examples, rows, device)
        for k, predictor in enumerate(predictors):
            nats = token_nats(predictor, batch.ids, batch.scored).double()
            after = (nats * batch.target).sum(1).cpu().numpy()
            target[rows, k] = after
            history[rows, k] = nats.sum(1).cpu().numpy() - after
        advance(len(rows) * len(predictors))
    return Evidence(history, target)


def responsibilities(nats: Floats, weights: Floats, temper: float) -> Floats:
    """p(cluster | sequence), float64 [N, K], from `nats` [N, K] and the clusters' `weights` [K]: proportional to
    w_k exp(-temper nats_k)."""
    shares: Floats = softmax(np.log(np.maximum(weights, 1e-12)) - temper * nats, axis=1)
    return shares


def mixed_nats(evidence: Evidence, weights: Floats, temper: float) -> Floats:
    """-log of the next session's likelihood, float64 [N], mixing the predictors by the posterior given the history."""
    posterior = responsibilities(evidence.history, weights, temper)
    nats: Floats = -logsumexp(np.log(np.maximum(posterior, 1e-300)) - evidence.target, axis=1)
    return nats


def routed_nats(evidence: Evidence, own: Ints) -> Floats:
    """The next session's nats [N] under each user's cluster `own` [N]."""
    nats: Floats = evidence.target[np.arange(len(own)), own]
    return nats


def choose_temper(evidence: Evidence, weights: Floats) -> float:
    """The power of the likelihood under which next sessions of validation users surprise the mixture least."""
    if not len(evidence.history):
        return 1.0
    return min(TEMPERS, key=lambda temper: float(mixed_nats(evidence, weights, temper).sum()))
