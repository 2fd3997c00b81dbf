"""Calibration: from a raw outcome probability to one that holds on users the predictors never saw.

Platt's scaling (a line through the logits), the same with what the history alone says as a second input
(`browsing.propensity`), or isotonic regression, whichever has the lower log loss in cross-validation over users. What
is fitted is stored as plain numbers and applied with plain arithmetic.

A raw probability is a mean over sampled paths, so it is noisy, and the map learns E[outcome | the noisy value]: the
noisier, the flatter. It holds for as many paths as it was fitted with (`Calibration.samples`). More paths leave it a
little too cautious, fewer make it too bold; the raw probability is unbiased either way.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from browsing.propensity import Propensity

Floats = NDArray[np.float64]

MIN_CASES = 10
"""With fewer users on either side nothing is fitted: the raw probability is passed on, marked as not calibrated."""
MIN_SHAPE_POSITIVES = 20
"""With fewer users that had the outcome only the intercept is fitted: enough for the level, too few for a shape."""
FOLDS = 5
EDGE = 1e-6
"""Raw probabilities are kept this far from 0 and 1 before the logit."""
Z95 = 1.959964


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


def fit_calibration(
    raw: Floats,
    happened: NDArray[np.bool_],
    users: Sequence[str] | None = None,
    evidence: Floats | None = None,
) -> OutcomeCalibration:
    """The map from `raw` [N] (probabilities), and the histories' logits `evidence` [N], to how often it `happened` [N].

    `users` [N]: whose case each is, by default another user's each. Chosen among Platt, Platt with the slope held at 1,
    Platt that weighs the evidence, and isotonic by the log loss in stratified cross-validation over users; isotonic, a
    map of any shape, must be better by more than one standard error of the difference over users. Raises `ValueError`
    for different lengths or a raw value outside [0, 1].
    """
    raw, happened = np.asarray(raw, np.float64), np.asarray(happened, bool)
    if raw.shape != happened.shape or raw.ndim != 1 or (users is not None and len(users) != len(raw)):
        raise ValueError(f"raw {raw.shape}, happened {happened.shape} and users must be one row of equal length")
    if not ((raw >= 0) & (raw <= 1)).all():
        raise ValueError("a raw probability lies outside [0, 1]")
    owner = np.arange(len(raw)) if users is None else np.unique(np.asarray(users), return_inverse=True)[1]
    said = np.zeros(len(raw)) if evidence is None else np.asarray(evidence, np.float64)
    cases = _Cases(raw, happened, owner.astype(np.int64), said)
    with_outcome, without = len(np.unique(owner[happened])), len(np.unique(owner[~happened]))
    if min(with_outcome, without) < MIN_CASES:
        return OutcomeCalibration(**cases.counts())
    if with_outcome < MIN_SHAPE_POSITIVES:
        return _fit_intercept(cases)
    lines: list[_Fit] = [_fit_intercept, _fit_platt, *([] if evidence is None else [_fit_stacked])]
    losses = {fit: _validation_losses(fit, cases) for fit in (*lines, _fit_isotonic)}
    best = min(lines, key=lambda fit: round(float(losses[fit].mean()), 12))
    gain = losses[best] - losses[_fit_isotonic]
    return _fit_isotonic(cases) if gain.mean() > gain.std(ddof=1) / math.sqrt(len(gain)) else best(cases)


@dataclass(frozen=True, slots=True, eq=False)
class _Cases:
    """`raw`, whether it `happened`, the number of the `owner`, and the histories' logits `said`, all [N]."""

    raw: Floats
    happened: NDArray[np.bool_]
    owner: NDArray[np.int64]
    said: Floats

    def counts(self) -> dict[str, int]:
        return {"n": len(self.raw), "positives": int(self.happened.sum()), "users": len(np.unique(self.owner))}

    def take(self, rows: NDArray[np.bool_]) -> _Cases:
        return _Cases(self.raw[rows], self.happened[rows], self.owner[rows], self.said[rows])


_Fit = Callable[[_Cases], OutcomeCalibration]


def _fit_intercept(cases: _Cases) -> OutcomeCalibration:
    """The shift of the logits that makes the mean probability the observed share: the likelihood's maximum."""
    from scipy.optimize import brentq

    logits, positives = _logits(cases.raw), int(cases.happened.sum())
    shift = brentq(lambda b: float((1 / (1 + np.exp(-(logits + b)))).sum()) - positives, -60.0, 60.0, xtol=1e-10)
    return _platt(cases, 1.0, float(shift), slope_known=True)


def _fit_platt(cases: _Cases) -> OutcomeCalibration:
    from sklearn.linear_model import LogisticRegression

    # Next to no penalty: two parameters need none, and it would pull the slope towards 0 where 1 is the natural value.
    model = LogisticRegression(C=1e6, max_iter=1000).fit(_logits(cases.raw)[:, None], cases.happened)
    slope = float(model.coef_[0, 0])
    if slope <= 0:  # a falling line would turn the ranking of visitors around; then only the level can be learnt
        return _fit_intercept(cases)
    return _platt(cases, slope, float(model.intercept_[0]), slope_known=False)


def _fit_stacked(cases: _Cases) -> OutcomeCalibration:
    """Platt with the history's logit as a second input, neither of which may turn the ranking around."""
    from sklearn.linear_model import LogisticRegression

    inputs = np.stack([_logits(cases.raw), cases.said], axis=1)
    model = LogisticRegression(C=1e6, max_iter=1000).fit(inputs, cases.happened)
    slope, history = (float(weight) for weight in model.coef_[0])
    if history <= 0:
        return _fit_platt(cases)
    if slope <= 0:  # the paths add nothing: the history speaks alone
        model = LogisticRegression(C=1e6, max_iter=1000).fit(cases.said[:, None], cases.happened)
        slope, history = 0.0, float(model.coef_[0, 0])
        if history <= 0:
            return _fit_platt(cases)
    return _platt(cases, slope, float(model.intercept_[0]), slope_known=slope == 0, history=history)


def _platt(
    cases: _Cases, slope: float, intercept: float, *, slope_known: bool, history: float = 0.0
) -> OutcomeCalibration:
    """With the covariance that holds although a user's cases are alike (the sandwich over users)."""
    logits = _logits(cases.raw)
    p = 1 / (1 + np.exp(-np.clip(slope * logits + history * cases.said + intercept, -60, 60)))
    none = np.zeros_like(logits)
    columns = [none if slope_known else logits, np.ones_like(logits), cases.said if history else none]
    design = np.stack(columns, axis=1)
    bread = np.linalg.pinv((design * (p * (1 - p))[:, None]).T @ design)
    _, owner = np.unique(cases.owner, return_inverse=True)
    scores = np.zeros((int(owner.max()) + 1, 3))
    np.add.at(scores, owner, design * (cases.happened - p)[:, None])
    covariance = bread @ (scores.T @ scores) @ bread * len(scores) / max(len(scores) - 1, 1)
    return OutcomeCalibration(
        method="platt",
        slope=slope,
        intercept=intercept,
        history=history,
        covariance=(float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])),
        history_covariance=tuple(covariance[2].tolist()) if history else None,
        calibrated=True,
        **cases.counts(),
    )


def _fit_isotonic(cases: _Cases) -> OutcomeCalibration:
    """Each point's bounds are Wilson's of its step, counted in users, and as monotone as the map itself."""
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    steps = model.fit_transform(cases.raw, cases.happened.astype(np.float64))
    x, y = (tuple(map(float, values)) for values in (model.X_thresholds_, model.y_thresholds_))
    order = np.argsort(cases.raw, kind="stable")
    at = np.searchsorted(cases.raw[order], model.X_thresholds_)
    members = {value: len(np.unique(cases.owner[steps == value])) for value in np.unique(steps)}
    bounds = np.array([wilson(float(steps[i]), members[steps[i]]) for i in order[at]])
    return OutcomeCalibration(
        method="isotonic",
        x=x,
        y=y,
        low=tuple(np.maximum.accumulate(bounds[:, 0]).tolist()),
        high=tuple(np.minimum.accumulate(bounds[::-1, 1])[::-1].tolist()),
        calibrated=True,
        **cases.counts(),
    )


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share counted on n cases; (0, 1) for none. It holds the share itself."""
    if n == 0:
        return 0.0, 1.0
    centre = share + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    return min(max(0.0, (centre - half) / scale), share), max(min(1.0, (centre + half) / scale), share)


def _validation_losses(fit: _Fit, cases: _Cases) -> Floats:
    """Every user's log loss while held out, summed over the user's cases. A user is in one fold; those with the outcome
    and those without are dealt to the folds in turn, in a fixed shuffle."""
    people, owner = np.unique(cases.owner, return_inverse=True)
    has = np.zeros(len(people), bool)
    has[owner[cases.happened]] = True
    dealt = np.empty(len(people), np.int64)
    order = np.random.default_rng(0).permutation(len(people))
    for label in (False, True):
        members = order[has[order] == label]
        dealt[members] = np.arange(len(members)) % FOLDS
    fold = dealt[owner]
    losses = np.zeros(len(people))
    for k in range(FOLDS):
        held = fold == k
        fitted = fit(cases.take(~held))
        rows = zip(owner[held], cases.raw[held], cases.said[held], cases.happened[held], strict=True)
        for user, value, said, label in rows:
            p = fitted.apply(float(value), float(said))
            losses[user] -= math.log(p if label else 1 - p)
    return losses


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
