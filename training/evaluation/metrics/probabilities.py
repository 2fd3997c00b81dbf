"""What the probabilities of an outcome are worth: scoring rules, calibration error, and who converts at which one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from browsing.calibration import Calibration, wilson
from browsing.forecast import Forecast
from training.evaluation.metrics.pages import Flags, Floats, Ints
from training.evaluation.result import Bin

EDGE = 1e-9
"""A probability counts as at least this far from 0 and 1 in the log loss."""
BINS = 15
"""Bins of the calibration error and of the reliability table."""
BUCKETS = 10
SIMULATIONS = 1000
NULL_LEVEL = 0.95
_SIMULATED_AT_ONCE = 2_000_000
"""Random numbers held at once."""

Kind = Literal["calibrated", "raw"]


@dataclass(frozen=True, slots=True, eq=False)
class Probabilities:
    """Of every outcome that a model forecasts, [N] each; `calibrated` holds those that have a calibration."""

    raw: dict[str, Floats]
    calibrated: dict[str, Floats]

    @classmethod
    def of(cls, answers: Sequence[Forecast], calibration: Calibration | None) -> Self:
        names = list(answers[0].outcomes) if answers else []
        raw = {name: np.array([answer.outcomes[name].probability for answer in answers]) for name in names}
        calibrated = {}
        for name, values in raw.items():
            said = [answer.outcomes[name].evidence for answer in answers]
            pairs = zip(values.tolist(), said, strict=True)
            applied = [] if calibration is None else [calibration.apply(name, p, evidence) for p, evidence in pairs]
            if applied and all(done for _, done in applied):
                calibrated[name] = np.array([p for p, _ in applied])
        return cls(raw, calibrated)

    def score(self, outcomes: Sequence[str]) -> tuple[Floats, Kind]:
        """One score [N] for "any of `outcomes`": the highest of their probabilities, calibrated where all of them are.

        For a single outcome it is its probability. For several it is a lower bound of the chance of any, good for a
        threshold and not a probability.
        """
        kind: Kind = "calibrated" if all(name in self.calibrated for name in outcomes) else "raw"
        own = self.calibrated if kind == "calibrated" else self.raw
        return np.max([own[name] for name in outcomes], axis=0), kind


def squared_errors(probabilities: Floats, happened: Flags) -> Floats:
    """(p - y)² [N]; its mean is the Brier score."""
    return (probabilities - happened) ** 2


def surprises(probabilities: Floats, happened: Flags) -> Floats:
    """-log p(what happened) [N], in nats; its mean is the log loss. Probabilities are kept `EDGE` from 0 and 1."""
    kept = np.clip(probabilities, EDGE, 1 - EDGE)
    nats: Floats = -np.where(happened, np.log(kept), np.log1p(-kept))
    return nats


@dataclass(frozen=True, slots=True, eq=False)
class Binned:
    """Samples in bins of like probability: `places` [N] sorts them by it, bin b is `starts[b]` to `starts[b + 1]`."""

    places: Ints
    starts: Ints

    @classmethod
    def of(cls, probabilities: Floats, bins: int) -> Self:
        """At most `bins` bins of equal mass. Equal probabilities stay together, in the later bin, so that the
        result does not depend on the order of the samples."""
        places = np.argsort(probabilities, kind="stable")
        ordered = probabilities[places]
        first = np.searchsorted(ordered, ordered, side="left")  # of the run of equals that each sample belongs to
        wanted = np.arange(bins) * len(ordered) // bins
        return cls(places, np.unique(first[wanted]))

    def sums(self, values: Floats | Flags) -> Floats:
        """Per bin, over the last axis [..., N] -> [..., B]."""
        ordered = np.asarray(values, np.float64)[..., self.places]
        totals: Floats = np.add.reduceat(ordered, self.starts, axis=-1)
        return totals

    def table(self, probabilities: Floats, happened: Flags) -> Iterator[Bin]:
        ends = np.append(self.starts[1:], len(self.places))
        for start, end in zip(self.starts.tolist(), ends.tolist(), strict=True):
            members = self.places[start:end]
            p, hits, n = probabilities[members], int(happened[members].sum()), end - start
            yield Bin(
                lower=float(p[0]),
                upper=float(p[-1]),
                n=n,
                predicted=float(p.mean()),
                observed=hits / n,
                interval=wilson(hits / n, n),
                happened=hits,
            )


def calibration_error(probabilities: Floats, happened: Flags) -> float:
    """ECE: the mean over samples of |mean p - share that happened| of their bin; `BINS` bins of equal mass."""
    binned = Binned.of(probabilities, BINS)
    return float(np.abs(binned.sums(probabilities - happened)).sum() / len(probabilities))


def null_calibration_error(probabilities: Floats, seed: int) -> float:
    """The 95 % quantile of the ECE that a forecaster would have who says the same N probabilities and is right.

    With N samples nobody reaches an ECE of 0: an ECE below this one is no evidence against the probabilities. What
    happens is drawn from them `SIMULATIONS` times.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, 0xECE]))
    binned, n = Binned.of(probabilities, BINS), len(probabilities)
    ordered = probabilities[binned.places].astype(np.float32)
    errors = []
    rows = max(1, _SIMULATED_AT_ONCE // n)
    for start in range(0, SIMULATIONS, rows):
        size = min(rows, SIMULATIONS - start)
        wrong = ordered - (generator.random((size, n), np.float32) < ordered)
        errors.append(np.abs(np.add.reduceat(wrong, binned.starts, axis=1)).sum(1) / n)
    return float(np.quantile(np.concatenate(errors), NULL_LEVEL))


def reliability(probabilities: Floats, happened: Flags) -> tuple[Bin, ...]:
    """The bins of the calibration error, from the least likely to the likeliest."""
    return tuple(Binned.of(probabilities, BINS).table(probabilities, happened))


def buckets(probabilities: Floats, happened: Flags) -> tuple[Bin, ...]:
    """Deciles of propensity, the likeliest first: predicted against actual conversion."""
    return tuple(Binned.of(probabilities, BUCKETS).table(probabilities, happened))[::-1]


def happenings(groups: Mapping[str, frozenset[str]], sessions: Sequence[Sequence[str]]) -> dict[str, Flags]:
    """Per outcome [N]: whether the session holds one of its pages."""
    return {
        name: np.array([not pages.isdisjoint(session) for session in sessions], bool) for name, pages in groups.items()
    }
