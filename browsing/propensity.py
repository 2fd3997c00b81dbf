"""How ready for an outcome a visitor's past is: a logistic model over a few plain counts of the history.

A sampled path says what a visitor will do next; how often this one put things into the cart before is in the history
too, and a small predictor reads it poorly. What the counts say is one more input of the calibration, which decides how
much it is worth (Wolpert, Stacked Generalization, 1992).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

from browsing.logistic import Feature, log_odds

HALF = 3.0
"""Sessions ago at which a session counts half in `_recent_share`."""


def feature_names(outcomes: Sequence[str]) -> tuple[str, ...]:
    """The names of what `features` returns, in its order."""
    return (
        "log_visits",
        "single_visit",
        "log_mean_pages",
        "log_pages_of_last",
        *(f"{name}_{what}" for name in outcomes for what in ("share", "recent_share", "in_last")),
    )


def features(history: Sequence[Sequence[str]], outcomes: Mapping[str, frozenset[str]]) -> tuple[float, ...]:
    """Of a history of sessions of pages, oldest first; `outcomes`: the pages of each, in the order of the names.

    A function of the history alone: when the visitor returns is not known. Raises `ValueError` for no session.
    """
    if not history:
        raise ValueError("an empty history has no features")
    n = len(history)
    weights = [0.5 ** (age / HALF) for age in range(n - 1, -1, -1)]
    values = [
        math.log(n),
        float(n == 1),
        math.log1p(sum(map(len, history)) / n),
        math.log1p(len(history[-1])),
    ]
    for pages in outcomes.values():
        held = [not pages.isdisjoint(session) for session in history]
        recent = sum(w for w, has in zip(weights, held, strict=True) if has) / sum(weights)
        values += [sum(held) / n, recent, float(held[-1])]
    return tuple(values)


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OutcomeModel(_Document):
    """One outcome's `intercept` and `features`, in the order of `feature_names`."""

    intercept: FiniteFloat
    features: tuple[Feature, ...]

    def logit(self, values: Sequence[float]) -> float:
        """Of `features`' values."""
        return log_odds(self.intercept, self.features, values)


class Propensity(_Document):
    """Part of `calibration.json`. `pages`: of every outcome whose share is counted; `models`: of those of them that
    training users had often enough."""

    pages: dict[str, tuple[str, ...]]
    models: dict[str, OutcomeModel]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = feature_names(tuple(self.pages))
        for outcome, model in self.models.items():
            if tuple(feature.name for feature in model.features) != names:
                raise ValueError(f"{outcome}: its features are not {', '.join(names)}")
        return self

    def logits(self, history: Sequence[Sequence[str]]) -> dict[str, float]:
        """The log-odds of every outcome that has a model; empty for an empty history."""
        if not history:
            return {}
        values = features(history, {name: frozenset(pages) for name, pages in self.pages.items()})
        return {name: model.logit(values) for name, model in self.models.items()}
