"""The selector's losses: L_O = L1 + alpha L2 + beta L3 (HeTLM, section 4.6, equations 1, 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.settings import Losses


@dataclass(frozen=True, slots=True, eq=False)
class SelectorLoss:
    """The terms of L_O over one batch, each a scalar; `total` carries the gradient. `centroids` [K, d]: the blended
    e_k, detached: the stored centroids after this batch."""

    total: Tensor
    l1: Tensor
    l2: Tensor
    l3: Tensor
    centroids: Tensor


def expected_nats(pi: Tensor, nats: Tensor) -> Tensor:
    """L1 (equation 1): the batch mean of sum_k pi_k l_k. `pi`, `nats`: [B, K]."""
    return (pi * nats).sum(1).mean()


def entropy(logits: Tensor) -> Tensor:
    """L2 (equation 3): the batch mean of -sum_k pi_k log pi_k, in nats. `logits` [B, K]."""
    log_pi = logits.log_softmax(1)
    return -(log_pi.exp() * log_pi).sum(1).mean()


def summed_distance(centroids: Tensor) -> Tensor:
    """The Manhattan distances between `centroids` [K, d], summed over ordered pairs."""
    return (centroids[:, None] - centroids[None]).abs().sum()


def mean_distance(centroids: Tensor) -> Tensor:
    """The same per ordered pair and dimension; 0 for one cluster."""
    clusters, dimension = centroids.shape
    return summed_distance(centroids) / max(clusters * (clusters - 1) * dimension, 1)


def separation(centroids: Tensor, losses: Losses, reference: float) -> Tensor:
    """L3 (equation 4) for e_k in `centroids` [K, d].

    'paper': sigmoid of minus the summed distance; over hundreds of dimensions that is 0 to rounding, and so is its
    gradient. 'scaled': sigmoid of minus the mean distance in units of `reference`, the mean distance at the start, so
    that it starts at sigmoid(-1) and pulls.
    """
    if losses == "paper":
        return torch.sigmoid(-summed_distance(centroids))
    return torch.sigmoid(-mean_distance(centroids) / reference)


def batch_centroids(pi: Tensor, z: Tensor) -> Tensor:
    """The pi-weighted means of a batch's embeddings: [K, d] from `pi` [B, K] and `z` [B, d]."""
    return pi.T @ z / pi.sum(0).clamp_min(1e-8)[:, None]


def blend(stored: Tensor, pi: Tensor, z: Tensor, rate: float) -> Tensor:
    """e_k [K, d]: the stored centroid and, with weight `rate`, the batch's, which alone carries a gradient.

    Detached it is also the next stored centroid: an exponential moving average over batches.
    """
    return (1 - rate) * stored + rate * batch_centroids(pi, z)


def selector_loss(
    logits: Tensor,
    z: Tensor,
    nats: Tensor,
    tokens: Tensor,
    stored: Tensor,
    *,
    losses: Losses,
    alpha: float,
    beta: float,
    rate: float,
    reference: float,
) -> SelectorLoss:
    """L_O of one batch.

    `logits` [B, K], with gradient; `z` [B, d]; `nats` [B, K]: summed negative log-likelihood of each next session
    under each predictor; `tokens` [B]: its length. 'paper' takes l_k as the sum, 'scaled' as the mean per token.
    """
    pi = logits.softmax(1)
    centroids = blend(stored, pi, z, rate)
    l1 = expected_nats(pi, nats if losses == "paper" else nats / tokens[:, None])
    l2 = entropy(logits)
    l3 = separation(centroids, losses, reference)
    return SelectorLoss(l1 + alpha * l2 + beta * l3, l1.detach(), l2.detach(), l3.detach(), centroids.detach())
