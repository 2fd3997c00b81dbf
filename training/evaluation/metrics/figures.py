"""Figures as functions of weights over samples, so that the figure itself and its resamples are one computation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from training.evaluation.metrics.bleu import Bleu, Overlaps
from training.evaluation.metrics.bootstrap import interval, resampled
from training.evaluation.metrics.pages import Flags, Floats, Ints

SAME_LENGTH = 1e-9
"""Mean lengths that differ by no more, in proportion, are the same."""


class Figures:
    """Named figures over N samples. Add them, then ask for all at once under any weights [R, N]."""

    def __init__(self, n: int) -> None:
        self._ones = np.ones(n)
        self._above: dict[str, Floats] = {}
        self._below: dict[str, Floats] = {}
        self._variances: dict[str, Floats] = {}
        self._orders: dict[str, Order] = {}
        self._tails: dict[str, Tail] = {}
        self._curves: dict[str, Curve] = {}
        self._bleus: dict[str, Bleu] = {}

    def ratio(self, name: str, above: Floats | Flags | Ints, below: Floats | Flags | Ints | None = None) -> None:
        """sum `above` / sum `below`, both [N]; by default the mean of `above`. 0 where the divisor is 0."""
        self._above[name] = above.astype(np.float64)
        self._below[name] = self._ones if below is None else below.astype(np.float64)

    def variance(self, name: str, values: Floats) -> None:
        """The population variance of `values` [N] (HeTLM, section 5.2.2); for HR it is HR (1 - HR)."""
        self._variances[name] = values - values.mean()  # centred: the difference of squares below keeps its digits

    def order(self, name: str, scores: Floats, happened: Flags) -> None:
        """`name.auc` and `name.average_precision` of `scores` [N]; NaN where undefined."""
        self._orders[name] = Order.of(scores, happened)

    def tail(self, name: str, values: Floats, share: float, *, highest: bool, at: Ints) -> None:
        """The mean of the `share` of `values` [U] that are highest, or lowest; value u weighs what sample `at[u]` does,
        so that users are ranked where samples are weighed."""
        self._tails[name] = Tail.of(values, share, highest, at)

    def curve(self, name: str, lengths: Floats | Ints, values: Floats, at: Floats) -> None:
        """The mean of `values` [N, M] where the mean of `lengths` [N, M], which rises along M, is that of `at` [N]:
        between two columns as many samples take the one as the other, so that the mean length comes out exactly. NaN
        where no column's mean length is as large, or as small."""
        self._curves[name] = Curve(lengths.astype(np.float64), values, at.astype(np.float64))

    def bleu(self, name: str, overlaps: Overlaps) -> None:
        """Corpus BLEU of N sessions, 0 to 100."""
        self._bleus[name] = Bleu.of(overlaps)

    def confusion(self, name: str, predicted: Flags, happened: Flags) -> None:
        """`name.accuracy`, `.recall`, `.precision` and `.f1` of two flags per sample (sections 5.1.2 and 5.2.3).

        A ratio without a denominator (nothing predicted, nothing happened) is 0: who predicts nothing earns nothing.
        """
        hits = predicted & happened
        self.ratio(f"{name}.accuracy", predicted == happened)
        self.ratio(f"{name}.recall", hits, happened)
        self.ratio(f"{name}.precision", hits, predicted)
        self.ratio(f"{name}.f1", 2 * hits.astype(np.int64), predicted.astype(np.int64) + happened)

    def under(self, weights: Floats) -> dict[str, Floats]:
        """Every figure [R] under `weights` [R, N]."""
        figures: dict[str, Floats] = {}
        if self._above:
            above, below = (weights @ np.stack(list(part.values()), 1) for part in (self._above, self._below))
            quotients = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
            figures |= dict(zip(self._above, quotients.T, strict=True))
        if self._variances:
            values = np.stack(list(self._variances.values()), 1)
            total = weights.sum(1, keepdims=True)
            spreads = np.maximum(weights @ values**2 / total - (weights @ values / total) ** 2, 0.0)
            figures |= dict(zip(self._variances, spreads.T, strict=True))
        for name, order in self._orders.items():
            figures[f"{name}.auc"], figures[f"{name}.average_precision"] = order.under(weights)
        figures |= {name: curve.under(weights) for name, curve in self._curves.items()}
        figures |= {name: bleu.under(weights) for name, bleu in self._bleus.items()}
        return figures | {name: tail.under(weights) for name, tail in self._tails.items()}

    def point(self) -> dict[str, float]:
        """Every figure with each sample counted once."""
        return {name: float(value[0]) for name, value in self.under(self._ones[None]).items()}

    def draws(self, groups: Ints, resamples: int, seed: int) -> dict[str, Floats]:
        """Every figure over resampled users [resamples]; `groups` [N] numbers each sample's user."""
        chunks = [self.under(weights) for weights in resampled(groups, resamples, seed)]
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]} if chunks else {}

    def intervals(self, groups: Ints, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
        """The 95 % interval of every figure that is defined in nearly all resamples."""
        known = {name: interval(values) for name, values in self.draws(groups, resamples, seed).items()}
        return {name: own for name, own in known.items() if own is not None}


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Scores, sorted once for all weights: samples by rising score, and where each distinct score begins."""

    places: Ints
    starts: Ints
    happened: Floats

    @classmethod
    def of(cls, scores: Floats, happened: Flags) -> Self:
        places = np.argsort(scores, kind="stable")
        return cls(places, _starts(scores[places]), happened[places].astype(np.float64))

    def under(self, weights: Floats) -> tuple[Floats, Floats]:
        """(AUC [R], average precision [R]); NaN where it happened to nobody, or for the AUC to everybody.

        AUC: how often a sample for which it happened has the higher score than one for which it did not; a tie is half.
        Average precision: the mean, over samples for which it happened, of the precision among all that score no less.
        """
        own = weights[:, self.places]
        positive = np.add.reduceat(own * self.happened, self.starts, axis=1)
        every = np.add.reduceat(own, self.starts, axis=1)
        negative = every - positive
        positives, negatives = positive.sum(1), negative.sum(1)
        lower = np.cumsum(negative, 1) - negative
        auc = _quotient((positive * (lower + negative / 2)).sum(1), positives * negatives)
        caught = positives[:, None] - np.cumsum(positive, 1) + positive
        flagged = every.sum(1, keepdims=True) - np.cumsum(every, 1) + every
        precision = np.divide(caught, flagged, out=np.zeros_like(caught), where=flagged > 0)
        return auc, _quotient((positive * precision).sum(1), positives)


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """Values sorted so that the tail comes first, the samples that weigh them, and the share that is the tail."""

    places: Ints
    values: Floats
    share: float

    @classmethod
    def of(cls, values: Floats, share: float, highest: bool, at: Ints) -> Self:
        ranked = np.argsort(-values if highest else values, kind="stable")
        return cls(at[ranked], values[ranked], share)

    def under(self, weights: Floats) -> Floats:
        """The tail's mean [R]; the value at its edge counts in part."""
        own = weights[:, self.places]
        size = self.share * own.sum(1, keepdims=True)
        taken = np.clip(size - (np.cumsum(own, 1) - own), 0.0, own)
        mean: Floats = taken @ self.values / size[:, 0]
        return mean


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """`lengths`, `values` [N, M], and the length to read the curve of their means at, that of `at` [N]."""

    lengths: Floats
    values: Floats
    at: Floats

    def under(self, weights: Floats) -> Floats:
        """The value [R] on the line between the two points (mean length, mean value) around the mean of `at`."""
        total = weights.sum(1)
        lengths, values = (weights @ part / total[:, None] for part in (self.lengths, self.values))
        wanted = weights @ self.at / total
        found = []
        for x, y, at in zip(lengths, values, wanted, strict=True):
            low, high = x[0], x[-1]
            edge = SAME_LENGTH * max(1.0, high)  # a sum in another order is no other length
            inside = low - edge <= at <= high + edge
            found.append(np.interp(at, x, y) if inside else np.nan)
        return np.array(found)


def _starts(ordered: Floats) -> Ints:
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))


def _quotient(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
