from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests import tiny
from training.batches import Example
from training.hetlm.keeping import Version
from training.interpolate import LAMBDAS, between, choose, interpolate
from training.predictors import load_weights, weights_of
from training.scoring import target_nats


def curve(best: float, users: int, seed: int, depth: float = 1.0) -> np.ndarray:
    """Losses [users, lambdas] of a parabola around `best`, with noise that all lambdas share."""
    noise = np.random.default_rng(seed).normal(0, 1, (users, 1))
    each = np.random.default_rng(seed + 1).normal(0, 0.05, (users, len(LAMBDAS)))
    return 5 + noise + each + depth * (np.array(LAMBDAS) - best)[None] ** 2


def test_every_large_cluster_has_its_own_lambda() -> None:
    own = np.repeat([0, 1], 200)
    nats = [
        np.concatenate([curve(0.75, 200, 0), curve(0, 200, 2)]),
        np.concatenate([curve(0, 200, 4), curve(0.25, 200, 6)]),
    ]
    assert choose(nats, own) == [0.75, 0.25]


def test_small_clusters_choose_together() -> None:
    own = np.repeat([0, 1, 2], [60, 60, 200])
    nats = [curve(0.5, 320, 0), curve(0.5, 320, 2), curve(1.0, 320, 4)]
    assert choose(nats, own) == [0.5, 0.5, 1.0]


def test_what_cannot_be_told_apart_goes_back_to_the_base() -> None:
    flat = np.random.default_rng(0).normal(5, 1, (200, len(LAMBDAS)))
    assert choose([flat], np.zeros(200, np.int64)) == [0.0]
    assert choose([flat[:0]], np.zeros(0, np.int64)) == [0.0]


def test_the_better_base_is_taken_and_the_ends_are_exact(tmp_path: Path) -> None:
    words = tiny.vocabulary()
    models = [AutoModelForCausalLM.from_pretrained(p) for p in tiny.predictors(tmp_path, words, 3)]
    select = [Example((1, 4, 5, 2, 1, 6, 7, 2), 5), Example((1, 8, 2, 1, 9, 4, 2), 4)] * 3
    pairs = [e.pair for e in select]
    versions = [
        Version(name, 0, weights_of(m), target_nats(m, pairs)[0]) for name, m in zip("abc", models, strict=True)
    ]
    result = interpolate(models[0], versions[2:], versions[:2], np.zeros(6, np.int64), select)
    assert result.base == min("ab", key=lambda n: versions["ab".index(n)].nats.sum())
    chosen = result.versions[0]
    load_weights(models[0], chosen.weights)
    assert target_nats(models[0], pairs)[0] == pytest.approx(chosen.nats, abs=1e-5)
    one, two = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}
    assert between(one, two, 0.25)["w"].tolist() == [1.0, 2.0]


def test_without_selection_users_nothing_moves(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny.predictor(tmp_path / "m", tiny.vocabulary()))
    version = Version("a", 1, weights_of(model), np.zeros(0))
    result = interpolate(model, [version], [version], np.zeros(0, np.int64), [])
    assert result.versions == [version]
    assert result.lambdas == [1.0]
