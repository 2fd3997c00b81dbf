"""Popularity: everybody is answered the pages that most users have viewed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from browsing.forecast import Forecast, OutcomeForecast
from browsing.vocabulary import BOS, PAD, Vocabulary
from training.baselines.answers import TOP_PAGES, answer, base_rates
from training.baselines.journeys import Journey, few, indicators, journeys
from training.baselines.port import Advance, Floats, Ints, Outcomes, check, fitted, ignore
from training.baselines.ranking import CHOOSING_USERS, Popular, mean_iou
from training.dataset import Sample
from training.evaluation.metrics.pages import pages_of


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    session: tuple[str, ...]
    pages: tuple[tuple[str, float], ...]
    outcomes: dict[str, OutcomeForecast]
    vocabulary: Vocabulary
    unigram: Floats


class Popularity:
    """The n pages of most distinct users; n is chosen on selection users for the mean intersection over union.

    A page's probability is the share of the training users' next sessions that hold it, smoothed to
    (count + 1/2) / (sessions + 1). As a language model it draws every token, `[EOS]` included, from the unigram.
    """

    name = "popularity"

    def __init__(self) -> None:
        self._state: _State | None = None

    @property
    def unigram(self) -> Floats:
        """Every token's probability, float64 [V]; the specials that no session can hold have none."""
        return fitted(self._state, self.name).unigram

    def fit(
        self,
        train: Sequence[Sample],
        select: Sequence[Sample],
        vocabulary: Vocabulary,
        outcomes: Outcomes,
        seed: int,
    ) -> None:
        check(self.name, train, select)
        users = journeys(train)
        popular = Popular(users, vocabulary)
        best = popular.order[: popular.depth]
        held = few(select, CHOOSING_USERS, seed)
        actual = indicators([sample.next_session for sample in held], vocabulary)
        sizes = np.array([len(pages_of(sample.next_session)) for sample in held], np.float64)
        length = int(mean_iou(actual[:, best].toarray(), sizes).argmax()) + 1
        reached = np.asarray(indicators([s.next_session for s in train], vocabulary).sum(0)).ravel()
        likely = popular.order[np.argsort(-reached[popular.order], kind="stable")][:TOP_PAGES]
        self._state = _State(
            session=tuple(vocabulary.tokens[i] for i in best[:length]),
            pages=tuple((vocabulary.tokens[i], float((reached[i] + 0.5) / (len(train) + 1))) for i in likely),
            outcomes=base_rates(train, outcomes),
            vocabulary=vocabulary,
            unigram=unigram(users, vocabulary),
        )

    def forecast(self, samples: Sequence[Sample], advance: Advance = ignore) -> list[Forecast]:
        state = fitted(self._state, self.name)
        answers = [answer(state.session, state.pages, sample.history, state.outcomes) for sample in samples]
        advance(len(samples))
        return answers

    def nats(self, samples: Sequence[Sample]) -> tuple[Floats, Ints]:
        state = fitted(self._state, self.name)
        targets = [state.vocabulary.session(sample.next_session)[1:] for sample in samples]
        logs = np.log(np.where(state.unigram > 0, state.unigram, 1.0))
        nats = np.array([-logs[target].sum() for target in targets], np.float64)
        return nats, np.array([len(target) for target in targets], np.int64)


def unigram(users: Sequence[Journey], vocabulary: Vocabulary) -> Floats:
    """The share of each token among the sessions' pages and ends, float64 [V], half a view added to each."""
    tokens = chain.from_iterable(vocabulary.session(pages)[1:] for user in users for pages in user.sessions)
    counts = np.bincount(np.fromiter(tokens, np.int64), minlength=len(vocabulary)) + 0.5
    counts[[PAD, BOS]] = 0.0
    shares: Floats = counts / counts.sum()
    return shares
