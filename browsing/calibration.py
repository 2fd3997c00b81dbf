"""Calibration: the map from a raw outcome probability to one that holds on users the predictors never saw.

A line through the logits (Platt), the same with what the history alone says as a second input (`browsing.propensity`),
or isotonic steps. Training fits it (`training.calibrating`); it is stored as plain numbers and applied with plain
arithmetic.

A raw probability is a mean over sampled paths, so it is noisy, and the map has learnt E[outcome | the noisy value]: the
noisier, the flatter. It holds for as many paths as it was fitted with (`Calibration.samples`). More paths leave it a
little too cautious, fewer make it too bold; the raw probability is unbiased either way.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from browsing.propensity import Propensity

EDGE = 1e-6
"""Raw probabilities are kept this far from 0 and 1 before the logit."""
Z95 = 1.959964
"""Standard errors on either side of a 95 % interval."""


class OutcomeCalibration(BaseModel):
    """One outcome's map from raw to calibrated probability.

    `platt`: 1 / (1 + exp(-(slope * logit(raw) + history * evidence + intercept))), where `evidence` is the history's
    own logit and `history` most often 0. `isotonic`: linear between the points (`x`, `y`), constant outside. Both are
    clipped to [1/(n+2), 1-1/(n+2)]: n cases cannot show more certainty than that.

    How well the map itself is known: `covariance` of slope and intercept (Platt), with the history's weight
    `history_covariance` too, or the 95 % bounds `low` and `high` at every `x` (isotonic). Both count users, not cases:
    what one user does twice is hardly seen twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["platt", "isotonic", "none"] = "none"
    slope: FiniteFloat = Field(default=1.0, ge=0)
    intercept: FiniteFloat = 0.0
    history: FiniteFloat = Field(default=0.0, ge=0, description="weight of the history's own logit")
    x: tuple[FiniteFloat, ...] = ()
    y: tuple[FiniteFloat, ...] = ()
    covariance: tuple[FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        default=None, description="of the slope, of both, of the intercept"
    )
    history_covariance: tuple[FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        default=None, description="of the history's weight with the slope, with the intercept, and with itself"
    )
    low: tuple[FiniteFloat, ...] = ()
    high: tuple[FiniteFloat, ...] = ()
    n: int = Field(default=0, ge=0, description="cases it was fitted on")
    positives: int = Field(default=0, ge=0, description="those of them with the outcome")
    users: int = Field(default=0, ge=0, description="users that the cases are of")
    calibrated: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.calibrated != (self.method != "none"):
            raise ValueError(f"calibrated is {self.calibrated} with method {self.method!r}")
        if self.positives > self.n:
            raise ValueError(f"{self.positives} positives among {self.n} cases")
        if self.method == "isotonic" and not self.x:
            raise ValueError("isotonic calibration without points")
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} x for {len(self.y)} y")
        if len(self.low) != len(self.high) or (self.low and len(self.low) != len(self.x)):
            raise ValueError(f"{len(self.low)} low and {len(self.high)} high for {len(self.x)} x")
        for name, values in (("x", self.x), ("y", self.y), ("low", self.low), ("high", self.high)):
            if list(values) != sorted(values) or any(not 0 <= value <= 1 for value in values):
                raise ValueError(f"{name} must rise within [0, 1]")
        return self

    def apply(self, raw: float, evidence: float | None = None) -> float:
        """The calibrated probability of a raw one in [0, 1]; the raw one itself for method `none`.

        `evidence`: the history's logit. Raises `ValueError` where the map weighs it and there is none.
        """
        if self.method == "none":
            return raw
        if self.method == "platt":
            value = _sigmoid(self.slope * _logit(raw) + self.intercept + self._of_history(evidence))
        else:
            value = _interpolate(raw, self.x, self.y)
        edge = 1 / (self.n + 2)
        return min(max(value, edge), 1 - edge)

    def _of_history(self, evidence: float | None) -> float:
        if self.history and evidence is None:
            raise ValueError("this calibration weighs the history, of which nothing was said")
        return self.history * evidence if self.history and evidence is not None else 0.0

    def interval(self, raw: float, sampling: tuple[float, float], evidence: float | None = None) -> tuple[float, float]:
        """The calibrated probability's 95 % interval, which holds it; `sampling` is the raw one's, over the paths.

        Two errors that have nothing to do with each other meet: that of the paths, carried through the map, and that of
        the map. Their distances to the probability are added in squares, each side by itself (Zou and Donner, 2008). A
        flat step of an isotonic map hides the first and not the second. For method `none`: `sampling` itself.
        """
        if self.method == "none":
            return sampling
        p = self.apply(raw, evidence)
        ends, fit = (self.apply(end, evidence) for end in sampling), self._bounds(raw, p, evidence)
        below, above = (math.hypot(end - p, bound - p) for end, bound in zip(ends, fit, strict=True))
        return max(p - below, 0.0), min(p + above, 1.0)

    def _bounds(self, raw: float, p: float, evidence: float | None) -> tuple[float, float]:
        """95 % bounds of the map at `raw`, around its value there; the value itself where nothing is known of them."""
        if self.method == "platt" and self.covariance is not None:
            x = _logit(raw)
            slope, both, intercept = self.covariance
            variance = slope * x * x + 2 * both * x + intercept
            if self.history_covariance is not None and evidence is not None:
                with_slope, with_intercept, own = self.history_covariance
                variance += evidence * (own * evidence + 2 * with_slope * x + 2 * with_intercept)
            reach = Z95 * math.sqrt(max(variance, 0.0))
            centre = self.slope * x + self.intercept + self._of_history(evidence)
            low, high = _sigmoid(centre - reach), _sigmoid(centre + reach)
        elif self.low:
            low, high = _interpolate(raw, self.x, self.low), _interpolate(raw, self.x, self.high)
        else:
            return p, p
        return min(low, p), max(high, p)


class Calibration(BaseModel):
    """`calibration.json`: one map per outcome, fitted to probabilities from `samples` paths (0: it is not known).
    `propensity`: what histories say by themselves, for maps that weigh it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    samples: int = Field(default=0, ge=0)
    outcomes: dict[str, OutcomeCalibration] = {}
    propensity: Propensity | None = None

    def covers(self, outcome: str) -> bool:
        """Whether the outcome's probabilities are calibrated."""
        fitted = self.outcomes.get(outcome)
        return fitted is not None and fitted.calibrated

    def apply(self, outcome: str, raw: float, evidence: float | None = None) -> tuple[float, bool]:
        """(probability, whether it is calibrated); an outcome that was not fitted keeps its raw probability."""
        fitted = self.outcomes.get(outcome)
        if fitted is None:
            return raw, False
        return fitted.apply(raw, evidence), fitted.calibrated

    def interval(
        self, outcome: str, raw: float, sampling: tuple[float, float], evidence: float | None = None
    ) -> tuple[float, float]:
        """See `OutcomeCalibration.interval`; an outcome that was not fitted keeps its raw interval."""
        fitted = self.outcomes.get(outcome)
        return sampling if fitted is None else fitted.interval(raw, sampling, evidence)

    def save(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read `calibration.json`. Raises `pydantic.ValidationError` naming the field, or `OSError`."""
        return cls.model_validate_json(path.read_text())


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share counted on n cases; (0, 1) for none. It holds the share itself."""
    if n == 0:
        return 0.0, 1.0
    centre = share + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    return min(max(0.0, (centre - half) / scale), share), max(min(1.0, (centre + half) / scale), share)


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
