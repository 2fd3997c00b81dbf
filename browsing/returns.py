"""Whether a visitor comes back: P(any session starts within the next days), from when and how the earlier ones were.

A logistic model over a few plain features. Training and the service compute them by the same code, from sessions that
began within `lookback_days` before the time that is asked about; what is fitted is stored as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from browsing.logistic import Feature, log_odds

SKEW = timedelta(hours=1)
"""Clocks differ: a visit that seems to begin up to this long after the time that is asked about begins then."""
RECENT_DAYS = (1, 3, 7)
DAY = 86_400.0
HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Visit:
    """One earlier session: when it began, how many pages it had, and which outcomes it held."""

    started_at: datetime
    pages: int
    outcomes: frozenset[str] = frozenset()


def visits_of(
    started_at: Sequence[datetime], sessions: Sequence[Sequence[str]], outcomes: Mapping[str, Sequence[str]]
) -> list[Visit]:
    """From sessions of pages [n] that began at `started_at` [n]; `outcomes`: the pages of each outcome."""
    return [
        Visit(at, len(pages), frozenset(name for name, own in outcomes.items() if not set(own).isdisjoint(pages)))
        for at, pages in zip(started_at, sessions, strict=True)
    ]


def feature_names(outcomes: Sequence[str]) -> tuple[str, ...]:
    """The names of what `features` returns, in its order."""
    return (
        "days_since_last",
        "log_days_since_last",
        "log_visits",
        *(f"log_visits_in_{days}_days" for days in RECENT_DAYS),
        "log_days_since_first",
        "log_mean_gap_days",
        "log_overdue",
        "single_visit",
        "log_pages_of_last",
        "log_mean_pages",
        *(f"{name}_{what}" for name in outcomes for what in ("share", "in_last")),
    )


def features(
    visits: Sequence[Visit], as_of: datetime, lookback_days: float, outcomes: Sequence[str]
) -> tuple[float, ...] | None:
    """Of a visitor with the earlier `visits`, oldest first, asked about at `as_of`; both timezone-aware.

    Visits older than `lookback_days` are left out, since no visitor of the training log has them; of a visitor who has
    nothing else the newest stays. None where there is no visit, or one begins after `as_of` (by more than `SKEW`).
    """
    if not visits or visits[-1].started_at - as_of > SKEW:
        return None
    ages = [max((as_of - visit.started_at).total_seconds(), 0.0) for visit in visits]
    read = [(age, visit) for age, visit in zip(ages, visits, strict=True) if age <= lookback_days * DAY]
    read = read or [(ages[-1], visits[-1])]
    n, (first, _), (since, last) = len(read), read[0], read[-1]
    gap = (first - since) / (n - 1) if n > 1 else 0.0
    shares = [sum(name in visit.outcomes for _, visit in read) / n for name in outcomes]
    return (
        since / DAY,
        _log_days(since),
        math.log(n),
        *(math.log1p(sum(age <= days * DAY for age, _ in read)) for days in RECENT_DAYS),
        _log_days(first),
        _log_days(gap) if n > 1 else 0.0,
        _log_days(since) - _log_days(gap) if n > 1 else 0.0,
        float(n == 1),
        math.log1p(last.pages),
        math.log1p(sum(visit.pages for _, visit in read) / n),
        *(value for name, share in zip(outcomes, shares, strict=True) for value in (share, name in last.outcomes)),
    )


def _log_days(seconds: float) -> float:
    """log((t + 1 h) / 1 day): minutes are as good as an hour."""
    return math.log((seconds + HOUR) / DAY)


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReturnQuality(_Document):
    """How good the probabilities were for users that were not fitted on. `base_log_loss`: of saying `rate` to all."""

    users: int = Field(ge=1)
    rate: float = Field(ge=0, le=1, description="share of them that returned")
    mean: float = Field(ge=0, le=1, description="of the probabilities")
    auc: float | None = Field(default=None, ge=0, le=1, description="none where all returned, or nobody")
    log_loss: FiniteFloat = Field(ge=0)
    base_log_loss: FiniteFloat = Field(ge=0)
    brier: float = Field(ge=0, le=1)
    ece: float = Field(ge=0, le=1, description="expected calibration error over bins of equally many users")
    null_ece: float = Field(ge=0, le=1, description="95 % quantile of the error that right probabilities would have")


class ReturnModel(_Document):
    """`returns.json`: 1 / (1 + exp(-(intercept + sum of weights * standardised features))), clipped to
    [1/(n+2), 1-1/(n+2)] for the n users that it was fitted on."""

    schema_version: Literal[1] = 1
    horizon_days: Literal[7] = 7
    lookback_days: float = Field(gt=0, description="older visits are not looked at")
    as_of: str = Field(description="the time up to which the fitted users' visits were known, ISO 8601")
    outcomes: tuple[str, ...]
    features: tuple[Feature, ...]
    intercept: FiniteFloat
    users: int = Field(ge=1, description="users it was fitted on, those that never came back among them")
    returned: int = Field(ge=0, description="those of them that came back within the horizon")
    held_out: ReturnQuality | None = Field(default=None, description="on the selection and calibration users")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if tuple(feature.name for feature in self.features) != feature_names(self.outcomes):
            raise ValueError("the features are not those that this version computes")
        for feature in self.features:
            if feature.low > feature.high:
                raise ValueError(f"{feature.name}: low is above high")
        if self.returned > self.users:
            raise ValueError(f"{self.returned} of {self.users} users returned")
        return self

    def probability(self, visits: Sequence[Visit], as_of: datetime) -> float | None:
        """That any session starts within `horizon_days` after `as_of`; None where `features` is."""
        values = features(visits, as_of, self.lookback_days, self.outcomes)
        return None if values is None else self.apply(values)

    def apply(self, values: Sequence[float]) -> float:
        """The probability for the features' `values`, in their order."""
        score = log_odds(self.intercept, self.features, values)
        p = 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))
        edge = 1 / (self.users + 2)
        return min(max(p, edge), 1 - edge)

    def save(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> ReturnModel:
        """Read `returns.json`. Raises `pydantic.ValidationError` naming the field, or `OSError`."""
        return cls.model_validate_json(path.read_text())
