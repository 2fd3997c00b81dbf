"""Probabilities from sampled paths: of an outcome, and of each page, within the first T pages of the next session.

Both use the probabilities along the paths rather than only which token was drawn, and are unbiased. A path includes the
step that ends it. A path still unfinished after T steps is complete for this purpose: the event is "within T pages".

Paths of one request are stratified in two halves, those of even and those of odd number, which are independent of one
another (`browsing.engines.sampling.noise`); so is one request of another, and several requests' paths in a row keep
that order where all but the last are of even number. What an estimator learns from paths it therefore applies to
those of the other half alone: learnt from all the other paths it would be biased (measured: by half a standard error).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from browsing.engine import Path
from browsing.vocabulary import EOS

Floats = NDArray[np.float64]

PRIOR = 0.25
"""Steps that the value of a signal begins with: of few paths few visit one, often none but the path in question."""
KNOWN = 2.0
"""The same where it is known beforehand about how much a signal is worth."""
DOUBT = 0.5
"""So many paths' worth of the largest variance that values in [0, 1] can have is added to that of the paths."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The paths of one set, and the ids [W] that they watch."""

    paths: Sequence[Path]
    watched: Sequence[int]


@dataclass(frozen=True, slots=True)
class OutcomeEstimate:
    """`interval`: 95 %, Student's t on the standard error over the paths, clipped to [0, 1]; (0, 1) for a single path.

    It says how far more paths would move the estimate, not how good the predictor is. Few paths may agree only because
    none of them met what is rare: `DOUBT` widens the interval by what that could hide. Paths of one request are
    stratified, which makes the true error smaller than the one that their scatter shows: on their account it is too
    wide rather than too narrow.
    """

    probability: float
    interval: tuple[float, float]

    @property
    def reach(self) -> float:
        """How far the interval goes from the probability, on its longer side."""
        return max(self.interval[1] - self.probability, self.probability - self.interval[0])


def outcome_estimate(paths: Sequence[Path]) -> OutcomeEstimate:
    """The chance of an outcome, from paths sampled with its tokens forbidden and watching its tokens alone.

    With p_t the sum of the watched probabilities at step t: the mean over paths of 1 - prod_t (1 - p_t). Forbidding
    divides every step's probabilities by 1 - p_t, so that product is the weight that turns the forbidden-path
    distribution back into the model's own: its mean is the chance that no step is the outcome. Each path's value lies
    in [0, 1], so the variance is never above that of counting as many unrestricted paths.

    Raises `ValueError` for no path.
    """
    return _mean([1 - float(np.prod(np.clip(1 - path.watched.sum(axis=1), 0, 1))) for path in paths])


def guided_estimate(
    without: Seen,
    outcome: Sequence[int],
    signals: Sequence[int],
    free: Seen | None = None,
    expected: float | None = None,
) -> OutcomeEstimate:
    """`outcome_estimate`, less the luck of the draws that decide most: ending early, and visiting a signal.

    A purchase is seldom far from a cart, so that a path's value hangs on whether the path visits one. `signals` are
    such pages; the paths watch them and `[EOS]` besides `outcome`. Let w_t = prod_{s<=t} (1 - p_s), and v(x) what the
    outcome's chance in the rest of a path is thought to be after a page x: 0 after `[EOS]`, one number after a signal,
    one after anything else. With q_t the probabilities under which x_t was drawn (outcome forbidden), every

        w_t (v(x_t) - sum_x q_t(x) v(x))

    has mean zero given the steps before, whatever v is, and the sum over t is taken off the path's value: the mean
    over paths stays what it is, and were v the truth, no variance would be left. v is a mean over the steps of paths
    of the OTHER half and of the `free` paths (drawn anyway for the pages) up to their first outcome; after a signal as
    if `PRIOR` more steps had had the value of other pages, or `KNOWN` more the value `expected`. Without that, paths of
    which none happens to visit a signal could not know what they have missed: they would all be near zero, for every
    visitor in so many. A path's value may lie outside [0, 1]; their mean is clipped.

    Raises `ValueError` for no path, or where one of the ids is not watched.
    """
    if not without.paths:
        raise ValueError("no path to estimate from")
    steps = _Steps.of(without, outcome, signals)
    learnt = steps.of_other_half()
    if free is not None and free.paths:
        # With equal seeds, paths of equal number are much the same in both sets, so the halves are the same, too.
        learnt = learnt + _Steps.of(free, outcome, signals, until_outcome=True).of_other_half()
    (chances_other, chances_signal), (others, visits) = learnt
    after_other = np.divide(chances_other, others, out=np.zeros(2), where=others > 0)
    before, value = (PRIOR, after_other) if expected is None else (KNOWN, expected)
    after_signal = (chances_signal + before * value) / (visits + before)
    # v less `after_other` everywhere: what is neither signal nor end then needs no probability of its own.
    half = np.arange(len(without.paths)) % 2
    luck = (after_signal - after_other)[half] * steps.surprise(steps.signal, signals)
    luck -= after_other[half] * steps.surprise(steps.end, (EOS,))
    return _mean((1 - steps.weights[:, -1] - luck).tolist())


def worth(name: str, outcomes: Iterable[str], rates: Mapping[str, float]) -> float | None:
    """What a visit to another outcome's page says about this one before any path is drawn: where it is the rarer of the
    two it mostly follows the other, as purchases follow carts, in about so many cases as the rates have it. None where
    no other is commoner."""
    own = rates.get(name, 0.0)
    commonest = max((rates.get(other, 0.0) for other in outcomes if other != name), default=0.0)
    return own / commonest if 0 < own < commonest else None


@dataclass(frozen=True, slots=True)
class _Steps:
    """n paths of at most T steps. `watched`: the ids [W] that matter; `probabilities` [n, T, W]: theirs, 0 beyond a
    path's end. `chance` [n, T]: of the outcome. `weights` [n, T]: w_t. `signal`, `end`, `other` [n, T]: what was drawn,
    0 or 1."""

    watched: list[int]
    probabilities: Floats
    chance: Floats
    weights: Floats
    signal: Floats
    end: Floats
    other: Floats

    @classmethod
    def of(cls, seen: Seen, outcome: Sequence[int], signals: Sequence[int], *, until_outcome: bool = False) -> _Steps:
        lengths = np.array([len(path.tokens) for path in seen.paths])
        live = np.arange(lengths.max()) < lengths[:, None]
        watched = [i for i in dict.fromkeys((*outcome, *signals, EOS)) if i in seen.watched]
        columns = [seen.watched.index(i) for i in watched]
        tokens = np.full(live.shape, -1)
        tokens[live] = [token for path in seen.paths for token in path.tokens]
        probabilities = np.zeros((*live.shape, len(watched)))
        probabilities[live] = np.concatenate([path.watched for path in seen.paths])[:, columns]
        chance = _sums(probabilities, watched, outcome)
        drawn = _among(tokens, outcome)
        if until_outcome:
            beyond = np.cumsum(drawn, axis=1) - drawn > 0
            chance[beyond], live[beyond] = 0.0, False
        signal, end = _among(tokens, signals) & live, (tokens == EOS) & live
        other = live & ~signal & ~end & ~drawn
        weights = np.cumprod(1 - chance, axis=1).astype(np.float64)
        return cls(watched, probabilities, chance, weights, *(kind.astype(np.float64) for kind in (signal, end, other)))

    def of_other_half(self) -> Floats:
        """[2, 2, 2]: the outcome's chances in the rest of a path, and the number of steps, summed over the steps of
        kind `other` and over those of kind `signal`; for paths of even number over those of odd number, and the other
        way round."""
        rest = np.cumprod((1 - self.chance)[:, ::-1], axis=1)[:, ::-1]
        kinds = np.stack([self.other, self.signal])
        per_path = np.stack([(kinds[:, :, :-1] * (1 - rest[:, 1:])).sum(axis=2), kinds.sum(axis=2)])
        halves: Floats = np.stack([per_path[:, :, 1::2].sum(axis=2), per_path[:, :, ::2].sum(axis=2)], axis=2)
        return halves

    def surprise(self, kind: Floats, ids: Sequence[int]) -> Floats:
        """[n]: sum_t w_t (1[x_t of `kind`] - q_t), where q_t is the chance that it was, the outcome forbidden."""
        before = np.concatenate([np.ones((len(kind), 1)), self.weights[:, :-1]], axis=1)
        likely = _sums(self.probabilities, self.watched, ids)
        total: Floats = (before * ((1 - self.chance) * kind - likely)).sum(axis=1)
        return total


def _among(tokens: NDArray[np.int64], ids: Sequence[int]) -> NDArray[np.bool_]:
    """[n, T]: whether each token is one of these few."""
    found: NDArray[np.bool_] = (tokens[:, :, None] == np.asarray(ids, np.int64)).any(axis=2)
    return found


def _sums(probabilities: Floats, watched: list[int], ids: Sequence[int]) -> Floats:
    """[n, T]: the summed probability of `ids` at each step."""
    sums: Floats = probabilities[:, :, [watched.index(i) for i in ids]].sum(axis=2)
    return np.clip(sums, 0, 1)


def _mean(per_path: Sequence[float]) -> OutcomeEstimate:
    if not per_path:
        raise ValueError("no path to estimate from")
    values = np.array(per_path)
    n, mean = len(values), min(max(float(values.mean()), 0.0), 1.0)
    if n == 1:
        return OutcomeEstimate(mean, (0.0, 1.0))
    likely = (n * mean + 0.5) / (n + 1)
    variance = float(values.var(ddof=1)) + DOUBT * likely * (1 - likely) / n
    reach = float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)
    return OutcomeEstimate(mean, (max(mean - reach, 0.0), min(mean + reach, 1.0)))


def _other_half(values: Floats, n: int) -> Floats:
    """[n, ...]: for a path of even number the sum of `values` [m, ...] over the paths of odd number, and the other way
    round."""
    sums = np.stack([values[1::2].sum(axis=0), values[::2].sum(axis=0)])
    chosen: Floats = sums[np.arange(n) % 2]
    return chosen


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
    near 1). Each path takes lambda from the paths of the OTHER half, held within [0, 1]. The mean is clipped to [0, 1]
    last.

    Raises `ValueError` for no path; a single path has no others and is counted.
    """
    return np.clip(unclipped_page_estimates(paths, watched), 0, 1)


def unclipped_page_estimates(paths: Sequence[Path], watched: Sequence[int]) -> Floats:
    """`page_estimates` before the clipping: exactly unbiased, and may lie a little outside [0, 1]."""
    if not paths:
        raise ValueError("no path to estimate from")
    n, W = len(paths), len(watched)
    lengths = [len(path.tokens) for path in paths]
    starts = np.cumsum([0, *lengths[:-1]])
    hazards = np.concatenate([path.watched for path in paths], dtype=np.float64)  # of all paths' steps in a row
    count = np.zeros((n, W))
    column = {token: w for w, token in enumerate(watched)}
    for i, (path, start) in enumerate(zip(paths, starts.tolist(), strict=True)):
        for step, token in enumerate(path.tokens):
            w = column.get(token)
            if w is not None and not count[i, w]:
                count[i, w] = 1.0
                hazards[start + step + 1 : start + len(path.tokens), w] = 0.0
    if n == 1:
        own: Floats = count[0]
        return own

    def per_path(values: Floats) -> Floats:
        sums: Floats = np.add.reduceat(values, starts, axis=0)
        return sums

    before = np.cumsum(hazards, axis=0) - hazards
    before -= np.repeat(before[starts], lengths, axis=0)
    covered, variation = per_path(hazards * before), per_path(hazards * (1 - hazards))
    others_covered, others_variation = _other_half(covered, n), _other_half(variation, n)
    ratio = np.divide(others_covered, others_variation, out=np.zeros((n, W)), where=others_variation > 0)
    weight = np.clip(1 - ratio, 0, 1)
    estimates: Floats = (count + weight * (per_path(hazards) - count)).mean(axis=0)
    return estimates
