"""What histories alone say about outcomes, fitted on training users: see `browsing.propensity`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from browsing.propensity import OutcomeModel, Propensity, feature_names, features
from browsing.returns import Feature
from training.batches import seed_of
from training.dataset import Sample

MIN_USERS = 100
MIN_OF_EACH = 20
"""Training users in all, and with and without the outcome in a next session; with fewer there is no model."""
MAX_SAMPLES = 200_000
"""More are drawn from: a dozen weights need no more."""
FOLDS = 5
STRENGTHS = tuple(float(c) for c in np.logspace(-4, 2, 7))


def fit_propensity(samples: Sequence[Sample], outcomes: Mapping[str, tuple[str, ...]], seed: int) -> Propensity | None:
    """One logistic model per outcome, its penalty chosen by cross-validation over users; None where there is none."""
    known = [sample for sample in samples if sample.history]
    if len(known) > MAX_SAMPLES:
        drawn = np.random.default_rng(seed_of(seed, "propensity")).choice(len(known), MAX_SAMPLES, replace=False)
        known = [known[row] for row in np.sort(drawn)]
    owner = np.unique([sample.user_id for sample in known], return_inverse=True)[1]
    names = sorted(outcomes)
    pages = {name: frozenset(outcomes[name]) for name in names}
    models = {}
    for name in names:
        happened = np.array([not pages[name].isdisjoint(sample.next_session) for sample in known], np.bool_)
        users = [len(np.unique(owner[happened == flag])) for flag in (True, False)]
        if len(np.unique(owner)) >= MIN_USERS and min(users) >= MIN_OF_EACH:
            values = np.array([features(sample.history, pages) for sample in known], np.float64)
            models[name] = _fit(values, happened, owner, feature_names(names))
    return Propensity(pages={name: tuple(outcomes[name]) for name in names}, models=models) if models else None


def _fit(
    values: NDArray[np.float64], happened: NDArray[np.bool_], owner: NDArray[np.int64], names: Sequence[str]
) -> OutcomeModel:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

    mean, spread = values.mean(0), values.std(0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    folds = StratifiedGroupKFold(FOLDS)
    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": STRENGTHS}, scoring="neg_log_loss", cv=folds)
    model = search.fit((values - mean) / scale, happened, groups=owner).best_estimator_
    weights = np.asarray(model.coef_, np.float64).reshape(-1)
    return OutcomeModel(
        intercept=float(np.asarray(model.intercept_).reshape(-1)[0]),
        features=tuple(
            Feature(
                name=name,
                low=float(values[:, i].min()),
                high=float(values[:, i].max()),
                mean=float(mean[i]),
                scale=float(scale[i]),
                weight=float(weights[i]),
            )
            for i, name in enumerate(names)
        ),
    )
