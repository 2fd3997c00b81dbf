"""The model of returning: fitted on training users, whether they came back or not, and measured on users kept out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from browsing.returns import ReturnModel, ReturnQuality, Visit, feature_names, features
from training.batches import seed_of
from training.dataset import Dataset, Split
from training.evaluation.metrics.probabilities import calibration_error, null_calibration_error
from training.logistic import fit_logistic

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

MIN_USERS = 200
MIN_OF_EACH = 20
"""Users that came back, and users that did not: with fewer there is no model."""
MAX_USERS = 100_000
"""More are drawn from: a dozen weights need no more."""
FOLDS = 5
HELD_OUT: tuple[Split, ...] = ("select", "calibrate")


@dataclass(frozen=True, slots=True, eq=False)
class Visitors:
    """`values` [N, F]: their features at the reference time; `returned` [N]."""

    values: Floats
    returned: Flags

    def enough(self) -> bool:
        back = int(self.returned.sum())
        return len(self.returned) >= MIN_USERS and min(back, len(self.returned) - back) >= MIN_OF_EACH


def fit_returns(dataset: Dataset, seed: int) -> ReturnModel | None:
    """Fitted on the training users, measured on the selection and calibration users, who play no part in it.

    None where the log is too short for a week after a reference time, or where fewer than `MIN_USERS` training users
    (`MIN_OF_EACH` that came back, as many that did not) were there before it.
    """
    info = dataset.info.returns
    outcomes = tuple(sorted(dataset.outcomes()))
    if info is None or "train" not in info.as_of:
        return None
    train = visitors(dataset, ("train",), info.lookback_days, outcomes, seed)
    if train is None or not train.enough():
        return None
    model = _fit(train, outcomes, info.lookback_days, info.as_of["train"], seed)
    return model.model_copy(update={"held_out": return_quality(model, dataset, HELD_OUT, seed)})


def return_quality(model: ReturnModel, dataset: Dataset, splits: Sequence[Split], seed: int) -> ReturnQuality | None:
    """The model's probabilities against what the users of some splits did; None where the dataset knows of nobody."""
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    known = visitors(dataset, splits, model.lookback_days, model.outcomes, seed)
    if known is None or not len(known.returned):
        return None
    p = np.array([model.apply(row) for row in known.values.tolist()])
    came = known.returned
    rate = float(came.mean())
    return ReturnQuality(
        users=len(p),
        rate=rate,
        mean=float(p.mean()),
        auc=float(roc_auc_score(came, p)) if 0 < rate < 1 else None,
        log_loss=float(log_loss(came, p, labels=[False, True])),
        base_log_loss=float(log_loss(came, np.full(len(p), rate), labels=[False, True])),
        brier=float(brier_score_loss(came, p)),
        ece=calibration_error(p, came),
        null_ece=null_calibration_error(p, seed_of(seed, "null") % 2**31),
    )


def return_metrics(model: ReturnModel | None) -> dict[str, float]:
    """For a manifest: the figures on held-out users; empty where there is no model or nobody was kept out."""
    quality = None if model is None else model.held_out
    if quality is None:
        return {}
    figures = quality.model_dump(exclude_none=True)
    return {f"return_{name}": float(value) for name, value in figures.items()}


def visitors(
    dataset: Dataset, splits: Sequence[Split], lookback_days: float, outcomes: Sequence[str], seed: int
) -> Visitors | None:
    """At most `MAX_USERS` of the users of some splits, in the file's order; None where the dataset has no such file."""
    frame = dataset.returns(splits)
    if frame is None:
        return None
    if frame.height > MAX_USERS:
        drawn = np.random.default_rng(seed_of(seed, "visitors")).choice(frame.height, MAX_USERS, replace=False)
        frame = frame[np.sort(drawn)]
    rows: list[tuple[float, ...]] = []
    returned: list[bool] = []
    columns = frame.select("as_of", "started_at", "pages", "outcomes", "returned")
    for as_of, started, pages, held, back in columns.iter_rows():
        visits = [Visit(at, n, frozenset(own)) for at, n, own in zip(started, pages, held, strict=True)]
        known = features(visits, as_of, lookback_days, outcomes)
        if known is not None:
            rows.append(known)
            returned.append(back)
    values = np.array(rows, np.float64).reshape(len(rows), len(feature_names(outcomes)))
    return Visitors(values, np.array(returned, np.bool_))


def _fit(train: Visitors, outcomes: tuple[str, ...], lookback_days: float, as_of: str, seed: int) -> ReturnModel:
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed_of(seed, "folds") % 2**31)
    intercept, weighed = fit_logistic(train.values, train.returned, feature_names(outcomes), folds)
    return ReturnModel(
        lookback_days=lookback_days,
        as_of=as_of,
        outcomes=outcomes,
        features=weighed,
        intercept=intercept,
        users=len(train.returned),
        returned=int(train.returned.sum()),
    )
