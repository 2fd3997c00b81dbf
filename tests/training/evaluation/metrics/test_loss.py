"""The test loss of both kinds of model, against the plain way of computing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from browsing.bundle import Bundle
from browsing.markov import MarkovMixture
from browsing.vocabulary import EOS, UNK
from tests import tiny
from training.dataset import Sample
from training.evaluation.metrics import loss
from training.evaluation.metrics.loss import markov_nats, pairs, predictor_nats

WORDS = tiny.vocabulary()


def test_a_target_is_the_session_with_its_end_and_without_its_beginning() -> None:
    ((prompt, target),), cut = pairs([(1, 5, 2, 1)], [["/bags", "/unheard-of"]], WORDS, context=64)
    assert prompt == (1, 5, 2, 1)
    assert target == [WORDS.id("/bags"), UNK, EOS]
    assert not cut[0]


def test_a_target_beyond_the_context_is_cut_and_says_so() -> None:
    scored, cut = pairs([(1,), (1,), (1,)], [["/"], ["/", "/bags"], ["/", "/bags", "/"]], WORDS, context=4)
    assert [len(target) for _, target in scored] == [2, 3, 3]
    assert cut.tolist() == [False, False, True]
    assert scored[2][1][-1] == WORDS.id("/")


@pytest.fixture
def scored(people: list[Sample]) -> list[tuple[tuple[int, ...], list[int]]]:
    prompts = [WORDS.prompt(person.history, 56).ids for person in people]
    return pairs(prompts, [person.next_session for person in people], WORDS, context=64)[0]


def test_markov_loss_is_the_sum_over_the_models_own_distributions(
    bundle: Bundle, scored: list[tuple[tuple[int, ...], list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "CHUNK", 7)  # several chunks
    mixture = MarkovMixture.load(bundle.root / "fallback")
    advanced: list[float] = []
    nats, tokens = markov_nats(mixture, scored, advanced.append)
    for (prompt, target), got, count in zip(scored, nats, tokens, strict=True):
        expected = -sum(
            np.log(mixture.distribution((*prompt, *target[:step]))[token]) for step, token in enumerate(target)
        )
        assert got == pytest.approx(expected, rel=1e-9)
        assert count == len(target)
    assert sum(advanced) == len(scored)


def test_each_user_is_scored_by_the_predictor_of_their_own_cluster(
    tmp_path: Path, scored: list[tuple[tuple[int, ...], list[int]]]
) -> None:
    predictors = tiny.predictors(tmp_path, WORDS)
    clusters = [place % 2 for place in range(len(scored))]
    nats, tokens = predictor_nats(predictors, clusters, scored, lambda n: None)
    models = [AutoModelForCausalLM.from_pretrained(path).eval() for path in predictors]
    for cluster, (prompt, target), got, count in zip(clusters, scored, nats, tokens, strict=True):
        with torch.no_grad():
            logs = models[cluster](torch.tensor([[*prompt, *target]])).logits[0].double().log_softmax(-1)
        expected = -sum(float(logs[len(prompt) + step - 1, token]) for step, token in enumerate(target))
        assert got == pytest.approx(expected, rel=1e-4)
        assert count == len(target)


def test_a_cluster_without_users_is_not_loaded(tmp_path: Path, scored: list[tuple[tuple[int, ...], list[int]]]) -> None:
    only = tiny.predictor(tmp_path / "one", WORDS)
    nats, _ = predictor_nats([tmp_path / "missing", only], [1] * len(scored), scored, lambda n: None)
    assert (nats > 0).all()
