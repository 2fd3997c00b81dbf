"""Evidence against the predictors' own token losses, and the posterior against Bayes' rule by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests import tiny
from training.batches import Example
from training.mixture.evidence import Evidence, choose_temper, mixed_nats, read, responsibilities, routed_nats
from training.scoring import target_nats, token_nats

EXAMPLES = [
    Example((1, 4, 5, 2, 1, 6, 2), 5),
    Example((1, 7, 2, 1, 8, 9, 4, 2), 4),
    Example((1, 5, 2), 1),
]


def test_history_and_target_are_the_parts_of_the_whole_sequence(tmp_path: Path) -> None:
    words = tiny.vocabulary()
    models = [AutoModelForCausalLM.from_pretrained(p) for p in tiny.predictors(tmp_path, words, 2)]
    together = read(models, EXAMPLES)
    assert together.whole.shape == (3, 2)
    for k, model in enumerate(models):
        assert together.target[:, k] == pytest.approx(target_nats(model, [e.pair for e in EXAMPLES])[0], abs=1e-4)
        for row, item in enumerate(EXAMPLES):
            ids = torch.tensor([item.ids])
            with torch.no_grad():
                nats = float(token_nats(model, ids, ids != 1).sum())
            assert together.whole[row, k] == pytest.approx(nats, abs=1e-4)
    alone = read(models, EXAMPLES, batch_size=1)
    assert alone.whole == pytest.approx(together.whole, abs=1e-4)
    assert together.history[2].tolist() == [0.0, 0.0]  # nothing came before


def test_responsibilities_are_bayes_rule() -> None:
    nats = -np.log(np.array([[0.2, 0.1], [0.3, 0.9]]))
    weights = np.array([0.25, 0.75])
    expected = np.array([[0.05, 0.075], [0.075, 0.675]])
    assert responsibilities(nats, weights, 1.0) == pytest.approx(expected / expected.sum(1, keepdims=True))
    assert responsibilities(nats, weights, 0.0) == pytest.approx(np.tile(weights, (2, 1)))


def test_mixed_nats_mix_by_the_posterior_given_the_history() -> None:
    evidence = Evidence(history=-np.log([[0.5, 0.25]]), target=-np.log([[0.1, 0.4]]))
    mixed = mixed_nats(evidence, np.array([0.5, 0.5]), 1.0)
    assert mixed == pytest.approx([-np.log(2 / 3 * 0.1 + 1 / 3 * 0.4)])
    assert routed_nats(evidence, np.array([1])) == pytest.approx([-np.log(0.4)])


def test_a_history_that_misleads_is_tempered() -> None:
    generator = np.random.default_rng(0)
    kind = generator.integers(2, size=400)
    target = np.where(np.arange(2)[None] == kind[:, None], 1.0, 2.0)
    honest = generator.normal(0, 0.3, (400, 2)) + np.where(np.arange(2)[None] == kind[:, None], 0.0, 8.0)
    boastful = generator.normal(0, 30, (400, 2))
    weights = np.array([0.5, 0.5])
    assert choose_temper(Evidence(honest, target), weights) == 1.0
    assert choose_temper(Evidence(boastful, target), weights) == 0.05
    assert choose_temper(Evidence(np.zeros((0, 2)), np.zeros((0, 2))), weights) == 1.0
