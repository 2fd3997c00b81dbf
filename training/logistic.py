"""A logistic regression on standardised features, its penalty chosen by cross-validation, as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from browsing.logistic import Feature

if TYPE_CHECKING:
    from sklearn.model_selection import BaseCrossValidator

STRENGTHS = tuple(float(c) for c in np.logspace(-4, 2, 7))


def fit_logistic(
    values: NDArray[np.float64],
    happened: NDArray[np.bool_],
    names: Sequence[str],
    folds: BaseCrossValidator,
    groups: NDArray[np.int64] | None = None,
) -> tuple[float, tuple[Feature, ...]]:
    """(intercept, features) of the model of `happened` [N] given `values` [N, F], the columns of `names`. `groups` [N]:
    whose cases must stay in one fold, where `folds` asks for it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    mean, spread = values.mean(0), values.std(0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": STRENGTHS}, scoring="neg_log_loss", cv=folds)
    model = search.fit((values - mean) / scale, happened, groups=groups).best_estimator_
    weights = np.asarray(model.coef_, np.float64).reshape(-1)
    features = tuple(
        Feature(
            name=name,
            low=float(values[:, i].min()),
            high=float(values[:, i].max()),
            mean=float(mean[i]),
            scale=float(scale[i]),
            weight=float(weights[i]),
        )
        for i, name in enumerate(names)
    )
    return float(np.asarray(model.intercept_).reshape(-1)[0]), features
