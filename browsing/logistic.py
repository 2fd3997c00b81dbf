"""Logistic models as plain numbers: what is stored of them, and how they are applied."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat


class Feature(BaseModel):
    """`weight` per standard deviation of the training users; a value outside their range counts as its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    low: FiniteFloat
    high: FiniteFloat
    mean: FiniteFloat
    scale: FiniteFloat = Field(gt=0)
    weight: FiniteFloat


def log_odds(intercept: float, features: Sequence[Feature], values: Sequence[float]) -> float:
    """Of the features' `values`, in their order."""
    score = intercept
    for feature, value in zip(features, values, strict=True):
        kept = min(max(value, feature.low), feature.high)
        score += feature.weight * (kept - feature.mean) / feature.scale
    return score
