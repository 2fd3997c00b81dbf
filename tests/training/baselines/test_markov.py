"""The single chain's back-off by hand, and what is chosen on selection users."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from browsing.decode import iou
from browsing.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from tests.training.baselines.people import OUTCOMES, VOCABULARY, simulated, visitor
from training.baselines.journeys import journeys
from training.baselines.markov import PRIORS, back_off_chain, mixture_of_chains, single_chain
from training.dataset import Sample
from training.evaluation.metrics.loss import markov_nats

AB = Vocabulary(["a", "b"])
A, B = 4, 5


def test_the_back_off_by_hand() -> None:
    """Sessions a b, a a b: a is followed by a once and by b twice; 7 tokens, 3 a, 2 b, 2 ends."""
    train = [visitor("1", [["a", "b"]], ["a", "a", "b"])]
    single = back_off_chain(journeys(train), AB, 2.0)
    unigram = {A: 3.5 / 9, B: 2.5 / 9, EOS: 2.5 / 9, UNK: 0.5 / 9, PAD: 0.0, BOS: 0.0}
    counts = {(A, A): 1, (A, B): 2, (B, EOS): 2, (BOS, A): 2}
    totals = {A: 3, B: 2, BOS: 2, UNK: 0}
    for source, total in totals.items():
        row = single.distribution([BOS, source] if source != BOS else [BOS])
        expected = [(counts.get((source, b), 0) + 2 * unigram[b]) / (total + 2) for b in range(6)]
        assert row == pytest.approx(expected)
        assert row.sum() == pytest.approx(1)


@pytest.mark.parametrize("users", [10, 400])
def test_the_single_chain_takes_the_back_off_of_the_lowest_loss(users: int) -> None:
    train, select = simulated(users, 0), simulated(50, 1)
    baseline = single_chain()
    baseline.fit(train, select, VOCABULARY, OUTCOMES, 0)
    losses = {}
    for prior in PRIORS:
        own = back_off_chain(journeys(train), VOCABULARY, prior)
        nats, tokens = markov_nats(own, [prompt_and_target(sample) for sample in select], lambda n: None)
        losses[prior] = nats.sum() / tokens.sum()
    best = min(losses, key=lambda prior: losses[prior])
    sessions = sum(len(sample.history) + 1 for sample in train)
    assert baseline.mixture.backoff[0, BOS] == pytest.approx(best / (sessions + best))
    nats, tokens = baseline.nats(select)
    assert nats.sum() / tokens.sum() == pytest.approx(losses[best])


def prompt_and_target(sample: Sample) -> tuple[tuple[int, ...], list[int]]:
    return VOCABULARY.prompt(sample.history, 1000).ids, VOCABULARY.session(sample.next_session)[1:]


def test_the_mixture_finds_the_kinds_and_beats_the_single_chain() -> None:
    train, select, test = simulated(400, 0), simulated(50, 1), simulated(150, 2)
    losses = []
    for baseline in (mixture_of_chains(), single_chain()):
        baseline.fit(train, select, VOCABULARY, OUTCOMES, 0)
        nats, tokens = baseline.nats(test)
        losses.append(nats.sum() / tokens.sum())
        if baseline.name == "markov_mixture":
            assert baseline.mixture.components in (2, 3)
    assert losses[0] < losses[1] - 0.02


def test_one_user_makes_a_mixture_of_one() -> None:
    baseline = mixture_of_chains()
    baseline.fit(simulated(1, 0), simulated(20, 1), VOCABULARY, OUTCOMES, 0)
    assert baseline.mixture.components == 1


def test_the_decode_is_the_better_one_on_selection_users() -> None:
    baseline = single_chain()
    held = simulated(50, 1)
    baseline.fit(simulated(200, 0), held, VOCABULARY, OUTCOMES, 0)
    chosen = baseline.options.decode
    scores = {}
    for decode in ("consensus", "greedy"):
        state = baseline._state
        assert state is not None
        baseline._state = replace(state, options=replace(state.options, decode=decode))
        answers = baseline.forecast(held)
        scores[decode] = np.mean(
            [iou(a.next_session, sample.next_session) for a, sample in zip(answers, held, strict=True)]
        )
    assert scores[chosen] == max(scores.values())
