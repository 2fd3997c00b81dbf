"""Who comes back within the horizon, and with which outcome: the service's answers about time, against what happened.

All else in an evaluation is given that the visitor returns. This is about every user with a visit before a reference
time, those that were never seen again among them, as `returns.parquet` holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from browsing.calibration import Calibration
from browsing.forecast import Forecast
from browsing.returns import ReturnModel, Visit
from training.dataset import Dataset, Sample, Split
from training.evaluation.metrics import probabilities as chances
from training.evaluation.metrics.figures import Figures
from training.evaluation.metrics.pages import Flags, Floats
from training.evaluation.metrics.probabilities import Probabilities
from training.evaluation.result import OutcomeWithin, ProbabilityMetrics, Returns, WithinHorizon
from training.evaluation.summary import Sampling
from training.returns import visitors

RETURN_USERS = 2000
"""Users forecast for outcomes within the horizon, where nobody says otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """Users as they stood at the reference time. `cases` [N]: their histories, in samples without a next session;
    `returning` [N]: P(any session within the horizon); `first`, `ever` [N]: the outcomes that the first session within
    the horizon held, and that any did."""

    cases: Sequence[Sample] = ()
    returning: Sequence[float] = ()
    first: Sequence[frozenset[str]] = ()
    ever: Sequence[frozenset[str]] = ()

    @classmethod
    def of(cls, dataset: Dataset, model: ReturnModel, split: Split, users: int, seed: int) -> Self:
        """At most `users` of a split's users, drawn by `seed`; nobody where it is unknown what they saw."""
        frame = dataset.followed() if split == "test" and users else None
        if frame is None:
            return cls()
        if frame.height > users:
            drawn = np.random.default_rng(np.random.SeedSequence([seed, 0xF0])).choice(frame.height, users, False)
            frame = frame[np.sort(drawn)]
        cases, returning, first, ever = [], [], [], []
        for row in frame.iter_rows(named=True):
            seen = zip(row["started_at"], row["pages"], row["outcomes"], strict=True)
            visits = [Visit(at, pages, frozenset(held)) for at, pages, held in seen]
            p = model.probability(visits, row["as_of"])
            if p is not None:
                sessions = tuple(map(tuple, row["sessions"]))
                times = tuple(row["started_at"][-len(sessions) :])
                cases.append(Sample("", sessions, times, (), row["as_of"]))
                returning.append(p)
                first.append(frozenset(row["first_outcomes"]))
                ever.append(frozenset(row["any_outcomes"]))
        return cls(cases, returning, first, ever)

    def outcomes(
        self, answers: Sequence[Forecast], calibration: Calibration | None, sampling: Sampling
    ) -> dict[str, OutcomeWithin]:
        """Per outcome, P(returns) times the probability that the service answers, calibrated where it can be; answer i
        is about case i."""
        own = Probabilities.of(answers, calibration)
        returning = np.array(self.returning)
        found = {}
        for name, raw in own.raw.items():
            p = returning * own.calibrated.get(name, raw)
            held = _within(p, np.array([name in held for held in self.first], bool), sampling)
            rate = float(np.mean([name in held for held in self.ever]))
            found[name] = OutcomeWithin(**dict(held), any_rate=rate)
        return found


def measure(
    dataset: Dataset,
    model: ReturnModel,
    split: Split,
    followed: Followed,
    answers: Sequence[Forecast],
    calibration: Calibration | None,
    sampling: Sampling,
) -> Returns | None:
    """Whether the split's users came back, and the outcomes of the `followed`, about whom `answers` are; None where
    the dataset knows of nobody."""
    info = dataset.info.returns
    known = visitors(dataset, (split,), model.lookback_days, model.outcomes, sampling.seed)
    if info is None or known is None or not len(known.returned):
        return None
    p = np.array([model.apply(row) for row in known.values.tolist()])
    return Returns(
        horizon_days=model.horizon_days,
        as_of=info.as_of[split],
        returned=_within(p, known.returned, sampling),
        outcomes=followed.outcomes(answers, calibration, sampling) if followed.cases else {},
    )


def _within(p: Floats, happened: Flags, sampling: Sampling) -> WithinHorizon:
    """Every user has one row, so users are what is resampled."""
    figures = Figures(len(p))
    figures.ratio("rate", happened)
    figures.ratio("quality.mean", p)
    figures.ratio("quality.brier", chances.squared_errors(p, happened))
    figures.ratio("quality.log_loss", chances.surprises(p, happened))
    figures.order("quality", p, happened)
    point = {name: None if np.isnan(value) else value for name, value in figures.point().items()}
    base = np.full(len(p), happened.mean())
    return WithinHorizon(
        users=len(p),
        rate=float(base[0]),
        base_log_loss=float(chances.surprises(base, happened).mean()),
        base_brier=float(chances.squared_errors(base, happened).mean()),
        quality=ProbabilityMetrics.model_validate(
            {name.removeprefix("quality."): value for name, value in point.items() if name != "rate"}
            | {
                "ece": chances.calibration_error(p, happened),
                "ece_null": chances.null_calibration_error(p, sampling.seed),
                "reliability": chances.reliability(p, happened),
                "buckets": chances.buckets(p, happened),
            }
        ),
        intervals=figures.intervals(np.arange(len(p)), sampling.resamples, sampling.seed),
    )
