"""Markov chains: a mixture, and a single one with back-off; asked, decoded and estimated by the code that serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from browsing.console import progress
from browsing.decode import iou
from browsing.engine import GenerateRequest, Path
from browsing.engines.markov import MarkovEngine
from browsing.forecast import Forecast, Forecaster, Options, Question
from browsing.markov import MarkovMixture
from browsing.vocabulary import BOS, EOS, PAD, Vocabulary
from training.baselines.journeys import Journey, few, journeys
from training.baselines.port import Advance, Floats, Ints, Outcomes, check, fitted, ignore
from training.dataset import Sample
from training.evaluation.metrics.loss import markov_nats
from training.evaluation.metrics.pages import pages_of
from training.profiles import reference_of

COMPONENTS = (2, 3, 4, 6, 8, 12)
"""Numbers of chains that are tried, in this order, until the loss on selection users has not fallen."""
PRIORS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Strengths of the back-off that are tried, in steps."""
LOSS_USERS, DECODE_USERS = 2000, 300
"""Selection users that models are chosen on, and the decode."""
MAX_STEPS = 20
PROMPT = 100_000
"""Tokens of history that are read: all of them, a chain has no context to run out of."""
PATIENCE = 600.0

Choose = Callable[[Sequence[Journey], Sequence[Sample], Vocabulary, int], MarkovMixture]


class _Engine(MarkovEngine):
    """Without a thread per request: there is nobody else to keep waiting."""

    async def generate(self, request: GenerateRequest) -> list[Path]:
        return self.sample(request)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    mixture: MarkovMixture
    forecaster: Forecaster
    options: Options
    vocabulary: Vocabulary


class Markov:
    """A Markov mixture as a baseline. The decode, `greedy` or `consensus`, is chosen on selection users for IoU."""

    def __init__(self, name: str, choose: Choose) -> None:
        self._name = name
        self._choose = choose
        self._state: _State | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def mixture(self) -> MarkovMixture:
        """The chosen model."""
        return fitted(self._state, self.name).mixture

    @property
    def options(self) -> Options:
        """How it is asked: the chosen decode."""
        return fitted(self._state, self.name).options

    def fit(
        self,
        train: Sequence[Sample],
        select: Sequence[Sample],
        vocabulary: Vocabulary,
        outcomes: Outcomes,
        seed: int,
    ) -> None:
        check(self.name, train, select)
        mixture = self._choose(journeys(train), few(select, LOSS_USERS, seed), vocabulary, seed)
        reference = reference_of(train, np.zeros(len(train), np.int64), 1, vocabulary, outcomes)
        ids = {name: tuple(vocabulary.id(page) for page in pages) for name, pages in outcomes.items()}
        forecaster = Forecaster(vocabulary, ids, reference, MAX_STEPS)
        state = _State(mixture, forecaster, Options(decode="consensus", seed=seed), vocabulary)
        self._state = replace(state, options=_decode(state, few(select, DECODE_USERS, seed)))

    def forecast(self, samples: Sequence[Sample], advance: Advance = ignore) -> list[Forecast]:
        state = fitted(self._state, self.name)
        return [own[0] for own in asyncio.run(_ask(state, samples, [state.options], advance))]

    def nats(self, samples: Sequence[Sample]) -> tuple[Floats, Ints]:
        state = fitted(self._state, self.name)
        return markov_nats(state.mixture, _pairs(samples, state.vocabulary), ignore)


async def _ask(
    state: _State, samples: Sequence[Sample], ways: Sequence[Options], advance: Advance
) -> list[list[Forecast]]:
    """Each sample's forecasts, one per way to read the same paths.

    Everybody is asked with the same seed: an engine's random numbers depend on the prompt besides, so that an answer
    does not depend on who else is asked.
    """
    engine, answers = _Engine(state.mixture), []
    for sample in samples:
        question = Question(0, state.vocabulary.prompt(sample.history, PROMPT).ids, sample.history)
        draws = await state.forecaster.draw(engine, question, ways[0], PATIENCE)
        answers.append([state.forecaster.summarise(question, draws, way) for way in ways])
        advance(1)
    return answers


def _decode(state: _State, held: Sequence[Sample]) -> Options:
    """The options with the decode of the higher mean IoU; of equals, consensus."""
    ways = [state.options, replace(state.options, decode="greedy")]
    with progress("choosing the decode", len(held), "users") as advance:
        answers = asyncio.run(_ask(state, held, ways, advance))
    means = np.mean(
        [
            [iou(forecast.next_session, tuple(pages_of(sample.next_session))) for forecast in own]
            for own, sample in zip(answers, held, strict=True)
        ],
        axis=0,
    )
    return ways[int(means.argmax())]


def _pairs(samples: Sequence[Sample], vocabulary: Vocabulary) -> list[tuple[tuple[int, ...], list[int]]]:
    return [
        (vocabulary.prompt(sample.history, PROMPT).ids, vocabulary.session(sample.next_session)[1:])
        for sample in samples
    ]


def _loss(mixture: MarkovMixture, held: Sequence[Sample], vocabulary: Vocabulary) -> float:
    nats, tokens = markov_nats(mixture, _pairs(held, vocabulary), ignore)
    return float(nats.sum() / tokens.sum())


def mixture_of_chains() -> Markov:
    """The mixture of Cadez et al. (2000), fitted by EM; the number of chains has the lowest loss on selection users."""
    return Markov("markov_mixture", _mixture)


def _mixture(users: Sequence[Journey], held: Sequence[Sample], vocabulary: Vocabulary, seed: int) -> MarkovMixture:
    ids = [[vocabulary.session(pages) for pages in user.sessions] for user in users]
    best, lowest = MarkovMixture.fit(ids, len(vocabulary), 1, seed=seed), np.inf
    with progress("Markov mixtures", None, "iterations") as advance:
        for components in COMPONENTS:
            if components > len(ids):
                break
            mixture = MarkovMixture.fit(
                ids, len(vocabulary), components, seed=seed, report=lambda iteration, likelihood: advance(1)
            )
            loss = _loss(mixture, held, vocabulary)
            if loss >= lowest:
                break
            best, lowest = mixture, loss
    return best


def single_chain() -> Markov:
    """One first-order chain that backs off to the unigram; how readily has the lowest loss on selection users."""
    return Markov("markov", _single)


def _single(users: Sequence[Journey], held: Sequence[Sample], vocabulary: Vocabulary, seed: int) -> MarkovMixture:
    chains = (back_off_chain(users, vocabulary, prior) for prior in PRIORS)
    return min(chains, key=lambda single: _loss(single, held, vocabulary))


def back_off_chain(users: Sequence[Journey], vocabulary: Vocabulary, prior: float) -> MarkovMixture:
    """The chain p(b | a) = (N(a, b) + n u(b)) / (N(a) + n) as a mixture of one component, n being `prior` steps.

    u is the unigram (N(b) + 1/2) / (N + (V - 2) / 2) over the ids that can follow. `MarkovMixture.fit` would smooth
    its only component towards itself.
    """
    V = len(vocabulary)
    sessions = [vocabulary.session(pages) for user in users for pages in user.sessions]
    ids = np.fromiter(chain.from_iterable(sessions), np.int64)
    source, target = ids[:-1], ids[1:]
    inside = source != EOS
    steps, counts = np.unique(source[inside] * V + target[inside], return_counts=True)
    unigram: Floats = np.bincount(steps % V, counts, minlength=V).astype(np.float64) + 0.5
    unigram[[PAD, BOS]] = 0.0
    unigram /= unigram.sum()
    total: Floats = np.bincount(steps // V, counts, minlength=V).astype(np.float64) + prior
    probabilities = (counts + prior * unigram[steps % V]) / total[steps // V]
    return MarkovMixture(
        weights=np.ones(1),
        steps=steps,
        probabilities=probabilities[None],
        backoff=(prior / total)[None],
        pooled_backoff=np.ones(V),
        unigram=unigram,
        unigrams=unigram[None],
    )
