"""Rankings of pages as forecasts: the best n pages are the next session, n and everything else chosen on validation.

A ranking says neither how long a session is nor how likely a page. n is the length with the highest mean intersection
over union on selection users; probabilities come from the scores by an isotonic regression on the same users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from sklearn.isotonic import IsotonicRegression

from browsing.console import progress
from browsing.forecast import Forecast, OutcomeForecast
from browsing.vocabulary import SPECIALS, Vocabulary
from training.baselines.answers import TOP_PAGES, answer, base_rates
from training.baselines.journeys import Journey, few, journeys, user_counts
from training.baselines.port import Advance, Floats, Ints, Outcomes, check, fitted, ignore
from training.dataset import Sample
from training.evaluation.metrics.pages import pages_of

DEPTH = 50
"""Pages of a ranking that are looked at; the longest session that a ranking can answer."""
CHOOSING_USERS = 1000
"""Selection users that the length and the probabilities are chosen on."""
VARIANT_USERS = 400
"""Those of them that variants are compared on: every variant ranks for the same users, which takes fewer."""

History = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """`ids`: int64 [N, M], each user's distinct pages, the best first. `scores`: float64 [N, M], at least 0, falling;
    comparable between users. M is at most `DEPTH`, fewer where the vocabulary is smaller."""

    ids: Ints
    scores: Floats


class Ranker(Protocol):
    """Ranks pages for histories, in one of several ways."""

    @property
    def variants(self) -> int:
        """How many ways there are."""

    def rank(self, histories: Sequence[History], variant: int, advance: Advance = ignore) -> Ranked:
        """By way number `variant`, from 0. A history's ranking does not depend on the others."""

    def describe(self, variant: int) -> str:
        """The way in words, for example "last session, k = 100"."""


class Popular:
    """Pages by distinct users, most first, equals in the vocabulary's order: the tie-breaker, and what fills rankings
    up. `order`: int64 [V - 4], page ids. `place`: int64 [V], the inverse; specials come last."""

    def __init__(self, users: Sequence[Journey], vocabulary: Vocabulary) -> None:
        self.counts = user_counts(users, vocabulary)
        pages = np.arange(len(SPECIALS), len(vocabulary))
        self.order: Ints = pages[np.argsort(-self.counts[pages], kind="stable")]
        self.place: Ints = np.full(len(vocabulary), len(vocabulary))
        self.place[self.order] = np.arange(len(self.order))
        self.depth = min(DEPTH, len(self.order))

    def best(self, ids: Ints, scores: Floats) -> tuple[Ints, Floats]:
        """The `depth` best of some distinct pages [n] by scores [n] above 0; filled up with popular ones, score 0."""
        if len(ids) > self.depth:
            keep = scores >= np.partition(scores, len(scores) - self.depth)[-self.depth]
            ids, scores = ids[keep], scores[keep]
        order = np.lexsort((self.place[ids], -scores))[: self.depth]
        ids, scores = ids[order], scores[order]
        missing = self.depth - len(ids)
        if missing:
            popular = self.order[: self.depth]  # at most len(ids) of these are taken
            ids = np.concatenate([ids, popular[~np.isin(popular, ids)][:missing]])
            scores = np.concatenate([scores, np.zeros(missing)])
        return ids, scores


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    ranker: Ranker
    variant: int
    length: int
    curve: IsotonicRegression
    vocabulary: Vocabulary
    outcomes: dict[str, OutcomeForecast]


class RankingBaseline:
    """A baseline made of a ranker. Outcomes get the training users' base rates."""

    def __init__(self, name: str, build: Callable[[Sequence[Journey], Vocabulary], Ranker]) -> None:
        self._name = name
        self._build = build
        self._state: _State | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def choice(self) -> str:
        """What was chosen on the selection users, in words."""
        state = fitted(self._state, self.name)
        return f"{state.ranker.describe(state.variant)}, n = {state.length}"

    def fit(
        self,
        train: Sequence[Sample],
        select: Sequence[Sample],
        vocabulary: Vocabulary,
        outcomes: Outcomes,
        seed: int,
    ) -> None:
        check(self.name, train, select)
        ranker = self._build(journeys(train), vocabulary)
        held = few(select, CHOOSING_USERS, seed)
        some = held[:: max(1, len(held) // VARIANT_USERS)]
        highest = []
        with progress(f"choosing {self.name}", ranker.variants * len(some) + len(held), "users") as advance:
            for variant in range(ranker.variants):
                ranked = ranker.rank([sample.history for sample in some], variant, advance)
                highest.append(mean_iou(_hits(ranked, some, vocabulary), _sizes(some)).max())
            variant = int(np.argmax(highest))
            ranked = ranker.rank([sample.history for sample in held], variant, advance)
        hits = _hits(ranked, held, vocabulary)
        length = int(mean_iou(hits, _sizes(held)).argmax()) + 1
        curve = probabilities(ranked.scores, hits)
        self._state = _State(ranker, variant, length, curve, vocabulary, base_rates(train, outcomes))

    def forecast(self, samples: Sequence[Sample], advance: Advance = ignore) -> list[Forecast]:
        state = fitted(self._state, self.name)
        if not samples:
            return []
        ranked = state.ranker.rank([sample.history for sample in samples], state.variant, advance)
        top = ranked.scores[:, :TOP_PAGES]
        chances = state.curve.predict(top.ravel()).reshape(top.shape)
        words = np.array(state.vocabulary.tokens, object)[ranked.ids]
        return [
            answer(names[: state.length], zip(names, own, strict=False), sample.history, state.outcomes)
            for names, own, sample in zip(words.tolist(), chances.tolist(), samples, strict=True)
        ]

    def nats(self, samples: Sequence[Sample]) -> None:
        """A ranking is no language model."""
        fitted(self._state, self.name)


def mean_iou(hits: Floats, sizes: Floats) -> Floats:
    """The mean intersection over union of the n best pages, float64 [M], for n from 1 to M.

    `hits` [N, M]: 1 where a ranked page came true; `sizes` [N]: distinct pages of the actual sessions.
    """
    found = np.cumsum(hits, axis=1)
    lengths = np.arange(1, hits.shape[1] + 1)
    iou: Floats = (found / (lengths + sizes[:, None] - found)).mean(0)
    return iou


def probabilities(scores: Floats, hits: Floats) -> IsotonicRegression:
    """P(the page is in the next session) as a rising function of its score, kept off 0 and 1."""
    edge = 1 / (scores.size + 2)
    curve = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
    return curve.fit(scores.ravel(), hits.ravel())


def _hits(ranked: Ranked, samples: Sequence[Sample], vocabulary: Vocabulary) -> Floats:
    actual = [[vocabulary.id(page) for page in sample.next_session if page in vocabulary] for sample in samples]
    return np.stack([np.isin(ids, own) for ids, own in zip(ranked.ids, actual, strict=True)]).astype(np.float64)


def _sizes(samples: Sequence[Sample]) -> Floats:
    return np.array([len(pages_of(sample.next_session)) for sample in samples], np.float64)
