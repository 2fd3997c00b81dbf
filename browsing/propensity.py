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
"""Sessions ago at which a session counts half in `recent_share`."""
_OF_VISITS = ("log_visits", "single_visit", "log_mean_pages", "log_pages_of_last")
_OF_OUTCOME = ("share", "recent_share", "in_last", "log_odds", "log_since", "log_views")
"""What is counted of every outcome: how often, how lately and how much. Three sessions of three say less than thirty of
thirty, and both have the share 1."""


def feature_names(outcomes: Sequence[str]) -> tuple[str, ...]:
    """The names of what `features` returns, in its order."""
    return (*_OF_VISITS, *(f"{name}_{what}" for name in outcomes for what in _OF_OUTCOME))


def features(history: Sequence[Sequence[str]], outcomes: Mapping[str, frozenset[str]]) -> dict[str, float]:
    """By name, in the order of `feature_names`. `history`: sessions of pages, oldest first; `outcomes`: the pages of
    each.

    Of an outcome that k of the n sessions hold: k / n; the same with sessions that count less the longer ago they were;
    whether the last one holds it; log((k + 1/2) / (n - k + 1/2)) (Anscombe, 1956); the logarithm of 1 + the sessions
    since the last that held it, all n where none did; and that of 1 + the views of its pages.

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
        views = [sum(page in pages for page in session) for session in history]
        held = [count > 0 for count in views]
        k = sum(held)
        values += [
            k / n,
            sum(w for w, has in zip(weights, held, strict=True) if has) / sum(weights),
            float(held[-1]),
            math.log((k + 0.5) / (n - k + 0.5)),
            math.log1p(held[::-1].index(True) if k else n),
            math.log1p(sum(views)),
        ]
    return dict(zip(feature_names(tuple(outcomes)), values, strict=True))


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OutcomeModel(_Document):
    """One outcome's `intercept` and `features`, some of `feature_names`."""

    intercept: FiniteFloat
    features: tuple[Feature, ...]

    def logit(self, values: Mapping[str, float]) -> float:
        """Of `features`' values, by name."""
        return log_odds(self.intercept, self.features, [values[feature.name] for feature in self.features])


class Propensity(_Document):
    """Part of `calibration.json`. `pages`: of every outcome that is counted; `models`: of those of them that
    training users had often enough."""

    pages: dict[str, tuple[str, ...]]
    models: dict[str, OutcomeModel]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = feature_names(tuple(self.pages))
        for outcome, model in self.models.items():
            own = [feature.name for feature in model.features]
            if len(set(own)) < len(own) or not set(own) <= set(names):
                raise ValueError(f"{outcome}: its features are {', '.join(own)}; known, once each: {', '.join(names)}")
        return self

    def logits(self, history: Sequence[Sequence[str]]) -> dict[str, float]:
        """The log-odds of every outcome that has a model; empty for an empty history."""
        if not history:
            return {}
        values = features(history, {name: frozenset(pages) for name, pages in self.pages.items()})
        return {name: model.logit(values) for name, model in self.models.items()}
