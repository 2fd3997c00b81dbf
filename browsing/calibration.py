"""Calibration: from a raw outcome probability to one that holds on users the predictors never saw.

Platt's scaling (a line through the logits) or isotonic regression, whichever has the lower log loss in cross-validation
over users. What is fitted is stored as plain numbers and applied with plain arithmetic.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Floats = NDArray[np.float64]

MIN_CASES = 10
"""With fewer positives or negatives nothing is fitted: the raw probability is passed on, marked as not calibrated."""
MIN_SHAPE_POSITIVES = 20
"""With fewer positives only the intercept is fitted: enough for the level, too few for a slope or a curve."""
FOLDS = 5
EDGE = 1e-6
"""Raw probabilities are kept this far from 0 and 1 before the logit."""


class OutcomeCalibration(BaseModel):
    """One outcome's map from raw to calibrated probability.

    `platt`: 1 / (1 + exp(-(slope * logit(raw) + intercept))). `isotonic`: linear between the points (`x`, `y`),
    constant outside. Both are clipped to [1/(n+2), 1-1/(n+2)]: n users cannot show more certainty than that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["platt", "isotonic", "none"] = "none"
    slope: FiniteFloat = Field(default=1.0, ge=0)
    intercept: FiniteFloat = 0.0
    x: tuple[FiniteFloat, ...] = ()
    y: tuple[FiniteFloat, ...] = ()
    n: int = Field(default=0, ge=0, description="users it was fitted on")
    positives: int = Field(default=0, ge=0, description="those of them with the outcome")
    calibrated: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.calibrated != (self.method != "none"):
            raise ValueError(f"calibrated is {self.calibrated} with method {self.method!r}")
        if self.positives > self.n:
            raise ValueError(f"{self.positives} positives among {self.n} users")
        if self.method == "isotonic" and not self.x:
            raise ValueError("isotonic calibration without points")
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} x for {len(self.y)} y")
        for name, values in (("x", self.x), ("y", self.y)):
            if list(values) != sorted(values) or any(not 0 <= value <= 1 for value in values):
                raise ValueError(f"{name} must rise within [0, 1]")
        return self

    def apply(self, raw: float) -> float:
        """The calibrated probability of a raw one in [0, 1]; the raw one itself for method `none`."""
        if self.method == "none":
            return raw
        if self.method == "platt":
            value = _sigmoid(self.slope * _logit(raw) + self.intercept)
        else:
            value = _interpolate(raw, self.x, self.y)
        edge = 1 / (self.n + 2)
        return min(max(value, edge), 1 - edge)


class Calibration(BaseModel):
    """`calibration.json`: one map per outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    outcomes: dict[str, OutcomeCalibration] = {}

    def apply(self, outcome: str, raw: float) -> tuple[float, bool]:
        """(probability, whether it is calibrated); an outcome that was not fitted keeps its raw probability."""
        fitted = self.outcomes.get(outcome)
        if fitted is None:
            return raw, False
        return fitted.apply(raw), fitted.calibrated

    def save(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read `calibration.json`. Raises `pydantic.ValidationError` naming the field, or `OSError`."""
        return cls.model_validate_json(path.read_text())


def fit_calibration(raw: Floats, happened: NDArray[np.bool_]) -> OutcomeCalibration:
    """The map from `raw` [N] (probabilities) to how often it `happened` [N], one row per user.

    Chosen among Platt, Platt with the slope held at 1, and isotonic by the log loss in stratified cross-validation; a
    tie goes to the simpler. Raises `ValueError` for different lengths or a raw value outside [0, 1].
    """
    raw, happened = np.asarray(raw, np.float64), np.asarray(happened, bool)
    if raw.shape != happened.shape or raw.ndim != 1:
        raise ValueError(f"raw {raw.shape} and happened {happened.shape} must be one row of equal length")
    if not ((raw >= 0) & (raw <= 1)).all():
        raise ValueError("a raw probability lies outside [0, 1]")
    n, positives = len(raw), int(happened.sum())
    if min(positives, n - positives) < MIN_CASES:
        return OutcomeCalibration(n=n, positives=positives)
    if positives < MIN_SHAPE_POSITIVES:
        return _fit_intercept(raw, happened)
    fits = (_fit_intercept, _fit_platt, _fit_isotonic)
    losses = [round(_validation_loss(fit, raw, happened), 12) for fit in fits]
    return fits[int(np.argmin(losses))](raw, happened)


_Fit = Callable[[Floats, NDArray[np.bool_]], OutcomeCalibration]


def _fit_intercept(raw: Floats, happened: NDArray[np.bool_]) -> OutcomeCalibration:
    """The shift of the logits that makes the mean probability the observed share: the likelihood's maximum."""
    from scipy.optimize import brentq

    logits, positives = _logits(raw), int(happened.sum())
    shift = brentq(lambda b: float((1 / (1 + np.exp(-(logits + b)))).sum()) - positives, -60.0, 60.0, xtol=1e-10)
    return OutcomeCalibration(method="platt", intercept=float(shift), n=len(raw), positives=positives, calibrated=True)


def _fit_platt(raw: Floats, happened: NDArray[np.bool_]) -> OutcomeCalibration:
    from sklearn.linear_model import LogisticRegression

    # Next to no penalty: two parameters need none, and it would pull the slope towards 0 where 1 is the natural value.
    model = LogisticRegression(C=1e6, max_iter=1000).fit(_logits(raw)[:, None], happened)
    slope = float(model.coef_[0, 0])
    if slope <= 0:  # a falling line would turn the ranking of visitors around; then only the level can be learnt
        return _fit_intercept(raw, happened)
    return OutcomeCalibration(
        method="platt",
        slope=slope,
        intercept=float(model.intercept_[0]),
        n=len(raw),
        positives=int(happened.sum()),
        calibrated=True,
    )


def _fit_isotonic(raw: Floats, happened: NDArray[np.bool_]) -> OutcomeCalibration:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, happened.astype(np.float64))
    return OutcomeCalibration(
        method="isotonic",
        x=tuple(map(float, model.X_thresholds_)),
        y=tuple(map(float, model.y_thresholds_)),
        n=len(raw),
        positives=int(happened.sum()),
        calibrated=True,
    )


def _validation_loss(fit: _Fit, raw: Floats, happened: NDArray[np.bool_]) -> float:
    """Mean log loss over held-out folds; positives and negatives are dealt to the folds in turn, in a fixed shuffle."""
    fold = np.empty(len(raw), np.int64)
    order = np.random.default_rng(0).permutation(len(raw))
    for label in (False, True):
        members = order[happened[order] == label]
        fold[members] = np.arange(len(members)) % FOLDS
    loss = 0.0
    for k in range(FOLDS):
        held = fold == k
        fitted = fit(raw[~held], happened[~held])
        for value, label in zip(raw[held], happened[held], strict=True):
            p = fitted.apply(float(value))
            loss -= math.log(p if label else 1 - p)
    return loss / len(raw)


def _logits(raw: Floats) -> Floats:
    kept = np.clip(raw, EDGE, 1 - EDGE)
    logits: Floats = np.log(kept) - np.log1p(-kept)
    return logits


def _logit(p: float) -> float:
    kept = min(max(p, EDGE), 1 - EDGE)
    return math.log(kept) - math.log1p(-kept)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _interpolate(value: float, x: tuple[float, ...], y: tuple[float, ...]) -> float:
    right = bisect_right(x, value)
    if right == 0:
        return y[0]
    if right == len(x):
        return y[-1]
    left = right - 1
    return y[left] + (y[right] - y[left]) * (value - x[left]) / (x[right] - x[left])
