"""LightGBM on plain features of the history: the propensity model that a shop would build for cart and purchase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from browsing.console import progress
from browsing.forecast import Forecast, OutcomeForecast
from browsing.vocabulary import Vocabulary
from training.baselines.answers import base_rates, certain
from training.baselines.features import Features, Table
from training.baselines.journeys import Journey, Session, journeys
from training.baselines.port import Advance, BaselineError, Floats, Outcomes, check, fitted, ignore
from training.baselines.ranking import Popular
from training.baselines.repeat import Repeat
from training.dataset import Sample

Flags = NDArray[np.bool_]
History = tuple[Sequence[Session], Sequence[datetime]]

PAGES = 50
"""Pages of most users whose views are features."""
ROUNDS, PATIENCE = 2000, 50
MIN_POSITIVES = 10
"""An outcome that happened to fewer training users, or to all but fewer, keeps its base rate."""
PARAMETERS: dict[str, object] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}


class _Trees(Protocol):
    """What is used of `lightgbm.Booster`."""

    best_iteration: int

    def predict(self, data: Table, num_iteration: int) -> Floats: ...


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    features: Features
    trees: dict[str, _Trees]
    rates: dict[str, OutcomeForecast]
    pages: Repeat


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """A training set: features, and per outcome whether it happened in the session that followed."""

    table: Table
    happened: dict[str, Flags]


class Boosting:
    """Gradient-boosted trees per outcome, grown on the log loss and stopped by the selection users' log loss.

    They are grown on the next sessions alone, and also on every session with a history: the training data are the
    same, but each user brings several rows. The better on selection users is kept. Pages and next sessions, of which
    trees say nothing, are those of `Repeat`.
    """

    name = "lightgbm"

    def __init__(self) -> None:
        self._state: _State | None = None

    def fit(
        self,
        train: Sequence[Sample],
        select: Sequence[Sample],
        vocabulary: Vocabulary,
        outcomes: Outcomes,
        seed: int,
    ) -> None:
        check(self.name, train, select)
        library = _library()
        users = journeys(train)
        popular = Popular(users, vocabulary)
        features = Features([vocabulary.tokens[i] for i in popular.order[:PAGES]], outcomes)
        newest = _rows(features, outcomes, [(_history(s), s.next_session) for s in train])
        every = _rows(features, outcomes, _prefixes(users))
        held = _rows(features, outcomes, [(_history(s), s.next_session) for s in select])
        trees: dict[str, _Trees] = {}
        with progress("boosting", 2 * len(outcomes), "models") as advance:
            for name in outcomes:
                grown = []
                for rows in (newest, every):
                    happened = rows.happened[name]
                    if MIN_POSITIVES <= happened.sum() <= len(happened) - MIN_POSITIVES:
                        grown.append(_grow(library, rows.table, happened, held.table, held.happened[name], seed))
                    advance(1)
                if grown:
                    truth = held.happened[name]
                    loss = [log_loss(truth, _predict(own, held.table), labels=[False, True]) for own in grown]
                    trees[name] = grown[int(np.argmin(loss))]
        pages = Repeat()
        pages.fit(train, select, vocabulary, outcomes, seed)
        self._state = _State(features, trees, base_rates(train, outcomes), pages)

    def forecast(self, samples: Sequence[Sample], advance: Advance = ignore) -> list[Forecast]:
        state = fitted(self._state, self.name)
        answers = state.pages.forecast(samples, advance)
        if not samples:
            return answers
        table = state.features.table([_history(sample) for sample in samples])
        chances = {name: _predict(trees, table) for name, trees in state.trees.items()}
        return [
            replace(own, outcomes=state.rates | {name: certain(float(p[row])) for name, p in chances.items()})
            for row, own in enumerate(answers)
        ]

    def nats(self, samples: Sequence[Sample]) -> None:
        """Trees on features are no language model."""
        fitted(self._state, self.name)


def _library() -> ModuleType:
    try:
        import lightgbm
    except ImportError as error:
        raise BaselineError(
            "the baseline 'lightgbm' needs the package of that name: pip install 'hetlm[baselines]'"
        ) from error
    library: ModuleType = lightgbm
    return library


def _grow(library: ModuleType, table: Table, happened: Flags, held: Table, held_happened: Flags, seed: int) -> _Trees:
    data = library.Dataset(table, happened.astype(np.float32), params={"verbosity": -1})
    parameters = PARAMETERS | {"seed": seed % 2**31}
    trees: _Trees = library.train(
        parameters,
        data,
        ROUNDS,
        valid_sets=[data.create_valid(held, held_happened.astype(np.float32))],
        callbacks=[library.early_stopping(PATIENCE, verbose=False)],
    )
    return trees


def _predict(trees: _Trees, table: Table) -> Floats:
    chances: Floats = np.asarray(trees.predict(table, num_iteration=trees.best_iteration), np.float64)
    return chances


def _history(sample: Sample) -> History:
    return sample.history, sample.history_started_at


def _prefixes(users: Sequence[Journey]) -> list[tuple[History, Session]]:
    """Every session with at least one before it, each with these."""
    return [
        ((user.sessions[:j], user.started_at[:j]), user.sessions[j])
        for user in users
        for j in range(1, len(user.sessions))
    ]


def _rows(features: Features, outcomes: Outcomes, pairs: Sequence[tuple[History, Session]]) -> _Rows:
    table = features.table([history for history, _ in pairs])
    happened = {
        name: np.array([not own.isdisjoint(following) for _, following in pairs], np.bool_)
        for name, own in ((name, frozenset(pages)) for name, pages in outcomes.items())
    }
    return _Rows(table, happened)
