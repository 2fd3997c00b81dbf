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
from functools import cache

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
    learnt = list(_halves(without, outcome, signals))
    if free is not None and free.paths:
        # With equal seeds, paths of equal number are much the same in both sets, so the halves are the same, too.
        learnt = [own.plus(more) for own, more in zip(learnt, _halves(free, outcome, signals), strict=True)]
    values = [tally.values(expected) for tally in learnt]
    marks = frozenset(signals)
    chance, likely, ending = (iter(_per_step(without, ids)) for ids in (outcome, signals, (EOS,)))
    estimates = []
    for number, path in enumerate(without.paths):
        after_other, after_signal = values[1 - number % 2]
        weight, signal, end = 1.0, 0.0, 0.0
        for token in path.tokens:
            missed = 1 - next(chance)
            signal += weight * (missed * (token in marks) - next(likely))
            end += weight * (missed * (token == EOS) - next(ending))
            weight *= missed
        # v less `after_other` everywhere: what is neither signal nor end then needs no probability of its own.
        estimates.append(1 - weight - (after_signal - after_other) * signal + after_other * end)
    return _mean(estimates)


def worth(name: str, outcomes: Iterable[str], rates: Mapping[str, float]) -> float | None:
    """What a visit to another outcome's page says about this one before any path is drawn: where it is the rarer of the
    two it mostly follows the other, as purchases follow carts, in about so many cases as the rates have it. None where
    no other is commoner."""
    own = rates.get(name, 0.0)
    commonest = max((rates.get(other, 0.0) for other in outcomes if other != name), default=0.0)
    return own / commonest if 0 < own < commonest else None


@dataclass(slots=True)
class _Tally:
    """Steps after which a path went on, by what they visited: another page or a signal. How many there are, and the
    outcome's chances in the rest of their paths, summed."""

    others: int = 0
    signals: int = 0
    after_others: float = 0.0
    after_signals: float = 0.0

    def plus(self, more: _Tally) -> _Tally:
        return _Tally(
            self.others + more.others,
            self.signals + more.signals,
            self.after_others + more.after_others,
            self.after_signals + more.after_signals,
        )

    def values(self, expected: float | None) -> tuple[float, float]:
        """v after another page, and v after a signal."""
        other = self.after_others / self.others if self.others else 0.0
        before, value = (PRIOR, other) if expected is None else (KNOWN, expected)
        return other, (self.after_signals + before * value) / (self.signals + before)


def _halves(seen: Seen, outcome: Sequence[int], signals: Sequence[int]) -> tuple[_Tally, _Tally]:
    """Of the paths of even number and of those of odd number, each up to its first outcome."""
    halves = _Tally(), _Tally()
    chance = _per_step(seen, outcome)
    ends, marks = frozenset(outcome), frozenset(signals)
    start = 0
    for number, path in enumerate(seen.paths):
        tally, tokens = halves[number % 2], path.tokens
        until = next((step + 1 for step, token in enumerate(tokens) if token in ends), len(tokens))
        missed = 1.0  # the chance that the rest of the path does not hold the outcome
        for step in range(until - 1, -1, -1):
            token = tokens[step]
            if token in marks:
                tally.signals += 1
                tally.after_signals += 1 - missed
            elif token != EOS and token not in ends:
                tally.others += 1
                tally.after_others += 1 - missed
            missed *= 1 - chance[start + step]
        start += len(tokens)
    return halves


def _per_step(seen: Seen, ids: Sequence[int]) -> list[float]:
    """The summed probability of `ids` at every step, all paths in a row. Raises `ValueError` for one not watched."""
    missing = [i for i in ids if i not in seen.watched]
    if missing:
        raise ValueError(f"the paths do not watch the ids {missing}")
    columns = [seen.watched.index(i) for i in ids]
    rows = np.concatenate([path.watched for path in seen.paths])[:, columns]
    sums: list[float] = np.minimum(rows.sum(axis=1, dtype=np.float64), 1).tolist()
    return sums


def _mean(per_path: Sequence[float]) -> OutcomeEstimate:
    if not per_path:
        raise ValueError("no path to estimate from")
    n, centre = len(per_path), sum(per_path) / len(per_path)
    mean = min(max(centre, 0.0), 1.0)
    if n == 1:
        return OutcomeEstimate(mean, (0.0, 1.0))
    likely = (n * mean + 0.5) / (n + 1)
    scatter = sum((value - centre) ** 2 for value in per_path) / (n - 1)
    reach = _student(n - 1) * math.sqrt((scatter + DOUBT * likely * (1 - likely) / n) / n)
    return OutcomeEstimate(mean, (max(mean - reach, 0.0), min(mean + reach, 1.0)))


@cache
def _student(freedom: int) -> float:
    """Student's t: so many standard errors reach from the mean to either end of a 95 % interval."""
    return float(stdtrit(freedom, 0.975))


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
