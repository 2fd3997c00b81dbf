"""Fitting the calibration on users kept for it: the map itself is `browsing.calibration`'s.

Platt's scaling, the same with what the history alone says as a second input, or isotonic regression, whichever has the
lower log loss in cross-validation over users; the level alone where few had the outcome, nothing where hardly anybody
did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from browsing.calibration import EDGE, OutcomeCalibration, wilson

Floats = NDArray[np.float64]

MIN_CASES = 10
"""With fewer users on either side nothing is fitted: the raw probability is passed on, marked as not calibrated."""
MIN_SHAPE_POSITIVES = 20
"""With fewer users that had the outcome only the intercept is fitted: enough for the level, too few for a shape."""
FOLDS = 5


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
