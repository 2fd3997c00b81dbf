"""What histories alone say about outcomes, fitted on training users: see `browsing.propensity`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from browsing.propensity import OutcomeModel, Propensity, feature_names, features
from training.batches import seed_of
from training.dataset import Sample
from training.logistic import fit_logistic

MIN_USERS = 100
MIN_OF_EACH = 20
"""Training users in all, and with and without the outcome in a next session; with fewer there is no model."""
MAX_SAMPLES = 200_000
"""More are drawn from: a few weights need no more."""
FOLDS = 5


def fit_propensity(samples: Sequence[Sample], outcomes: Mapping[str, tuple[str, ...]], seed: int) -> Propensity | None:
    """One logistic model per outcome, its penalty chosen by cross-validation over users; None where there is none."""
    from sklearn.model_selection import StratifiedGroupKFold

    known = [sample for sample in samples if sample.history]
    if len(known) > MAX_SAMPLES:
        drawn = np.random.default_rng(seed_of(seed, "propensity")).choice(len(known), MAX_SAMPLES, replace=False)
        known = [known[row] for row in np.sort(drawn)]
    owner = np.unique([sample.user_id for sample in known], return_inverse=True)[1]
    names = sorted(outcomes)
    pages = {name: frozenset(outcomes[name]) for name in names}
    columns = feature_names(names)
    counted = [features(sample.history, pages) for sample in known]
    values = np.array([[own[column] for column in columns] for own in counted], np.float64)
    models = {}
    for name in names:
        happened = np.array([not pages[name].isdisjoint(sample.next_session) for sample in known], np.bool_)
        users = [len(np.unique(owner[happened == flag])) for flag in (True, False)]
        if len(np.unique(owner)) >= MIN_USERS and min(users) >= MIN_OF_EACH:
            intercept, weighed = fit_logistic(values, happened, columns, StratifiedGroupKFold(FOLDS), owner)
            models[name] = OutcomeModel(intercept=intercept, features=weighed)
    return Propensity(pages={name: tuple(outcomes[name]) for name in names}, models=models) if models else None
