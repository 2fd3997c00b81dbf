"""Repeat: visitors do again what they did last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from browsing.forecast import Forecast, OutcomeForecast
from browsing.vocabulary import Vocabulary
from training.baselines.answers import answer, base_rates
from training.baselines.journeys import Session
from training.baselines.port import Advance, Floats, Outcomes, check, fitted, ignore
from training.dataset import Sample

AGES = 8
"""Sessions back that are told apart; older ones count as the oldest of these."""


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    returns: Floats
    vocabulary: Vocabulary
    outcomes: dict[str, OutcomeForecast]


class Repeat:
    """The newest session that holds a known page, again, without its unknown pages; empty where there is none.

    A page's probability is how often training users come back in their next session to a page that they last viewed so
    many sessions ago, smoothed to (count + 1/2) / (pages + 1), and never above that of a page viewed later.
    """

    name = "repeat"

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
        check(self.name, train)
        back, all_pages = np.zeros(AGES), np.zeros(AGES)
        for sample in train:
            following = set(sample.next_session)
            for page, age in ages(sample.history, vocabulary).items():
                back[age] += page in following
                all_pages[age] += 1
        returns = np.minimum.accumulate((back + 0.5) / (all_pages + 1))
        self._state = _State(returns, vocabulary, base_rates(train, outcomes))

    def forecast(self, samples: Sequence[Sample], advance: Advance = ignore) -> list[Forecast]:
        state = fitted(self._state, self.name)
        answers = []
        for sample in samples:
            # `ages` begins with what was viewed last, which is likeliest to come again.
            pages = ages(sample.history, state.vocabulary)
            likely = [(page, float(state.returns[age])) for page, age in pages.items()]
            answers.append(answer(last_known(sample.history, state.vocabulary), likely, sample.history, state.outcomes))
            advance(1)
        return answers

    def nats(self, samples: Sequence[Sample]) -> None:
        """A repetition is no language model."""
        fitted(self._state, self.name)


def last_known(history: Sequence[Session], vocabulary: Vocabulary) -> Session:
    """The known pages of the newest session that has any."""
    for session in reversed(history):
        known = tuple(page for page in session if page in vocabulary)
        if known:
            return known
    return ()


def ages(history: Sequence[Session], vocabulary: Vocabulary) -> dict[str, int]:
    """How many sessions ago each known page was last viewed, 0 for the last session; the newest views come first."""
    found: dict[str, int] = {}
    for age, session in enumerate(reversed(history)):
        for page in reversed(session):
            if page in vocabulary:
                found.setdefault(page, min(age, AGES - 1))
    return found
