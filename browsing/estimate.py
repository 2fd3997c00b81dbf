"""Probabilities from sampled paths: of an outcome, and of each page, within the first T pages of the next session.

Both use the probabilities along the paths rather than only which token was drawn, and are unbiased. A path includes the
step that ends it. A path still unfinished after T steps is complete for this purpose: the event is "within T pages".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from browsing.engine import Path

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OutcomeEstimate:
    """`interval`: 95 %, Student's t on the standard error over the paths, clipped to [0, 1]; (0, 1) for a single path.

    It says how far more paths would move the estimate, not how good the predictor is.
    """

    probability: float
    interval: tuple[float, float]


def outcome_estimate(paths: Sequence[Path]) -> OutcomeEstimate:
    """The chance of an outcome, from paths sampled with its tokens forbidden and watching its tokens alone.

    With p_t the sum of the watched probabilities at step t: the mean over paths of 1 - prod_t (1 - p_t). Forbidding
    divides every step's probabilities by 1 - p_t, so that product is the weight that turns the forbidden-path
    distribution back into the model's own: its mean is the chance that no step is the outcome. Each path's value lies
    in [0, 1], so the variance is never above that of counting as many unrestricted paths.

    Raises `ValueError` for no path.
    """
    if not paths:
        raise ValueError("no path to estimate from")
    values = np.array([1 - float(np.prod(np.clip(1 - path.watched.sum(axis=1), 0, 1))) for path in paths])
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return OutcomeEstimate(mean, (0.0, 1.0))
    reach = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
    return OutcomeEstimate(mean, (max(mean - reach, 0.0), min(mean + reach, 1.0)))


def visit_shares(paths: Sequence[Path]) -> dict[int, float]:
    """Counting: for every token on some path, the share of the paths that it is on."""
    counts: dict[int, int] = {}
    for path in paths:
        for token in set(path.tokens):
            counts[token] = counts.get(token, 0) + 1
    return {token: count / len(paths) for token, count in counts.items()}


def page_estimates(paths: Sequence[Path], watched: Sequence[int]) -> Floats:
    """The chance of each watched page being visited, float64 [W], from unrestricted paths that watch `watched` [W].

    Per path, c = 1 if the page is visited, and the hazard sum h = sum_t a_t with a_t = p_t(page) up to the page's first
    visit, 0 after. c - h is a martingale's end value, so E h = E c = P, and c + lambda (h - c) is unbiased for every
    lambda that does not look at the path itself. Its variance is least at

        lambda = Cov(c, c - h) / Var(c - h) = 1 - E[sum_t a_t A_t] / E[sum_t a_t (1 - a_t)],   A_t = sum_{s<t} a_s,

    where the second form replaces every drawn visit by its probability: it is estimated from the hazards alone, far
    less noisily than a regression of counts (for a page that no path visits, counts know nothing of lambda; here it is
    near 1). Each path takes lambda from the OTHER paths, held within [0, 1]. The mean is clipped to [0, 1] last.

    Raises `ValueError` for no path; a single path has no others and is counted.
    """
    return np.clip(unclipped_page_estimates(paths, watched), 0, 1)


def unclipped_page_estimates(paths: Sequence[Path], watched: Sequence[int]) -> Floats:
    """`page_estimates` before the clipping: exactly unbiased, and may lie a little outside [0, 1]."""
    if not paths:
        raise ValueError("no path to estimate from")
    n, T, W = len(paths), max(len(path.tokens) for path in paths), len(watched)
    ids = np.asarray(watched, np.int64)
    drawn = np.zeros((n, T, W), bool)
    hazards = np.zeros((n, T, W))
    for i, path in enumerate(paths):
        drawn[i, : len(path.tokens)] = np.asarray(path.tokens)[:, None] == ids
        hazards[i, : len(path.tokens)] = path.watched
    visits = np.cumsum(drawn, axis=1)
    hazards[(visits - drawn) > 0] = 0.0  # visited before this step
    count = (visits[:, -1] > 0).astype(np.float64)
    if n == 1:
        own: Floats = count[0]
        return own
    before = np.cumsum(hazards, axis=1) - hazards
    covered = (hazards * before).sum(axis=1)
    variation = (hazards * (1 - hazards)).sum(axis=1)
    others_covered, others_variation = covered.sum(axis=0) - covered, variation.sum(axis=0) - variation
    ratio = np.divide(others_covered, others_variation, out=np.zeros((n, W)), where=others_variation > 0)
    weight = np.clip(1 - ratio, 0, 1)
    estimates: Floats = (count + weight * (hazards.sum(axis=1) - count)).mean(axis=0)
    return estimates
