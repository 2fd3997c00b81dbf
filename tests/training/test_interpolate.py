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
    assert choose(nats, own, np.arange(400)) == [0.75, 0.25]


def test_small_clusters_choose_together() -> None:
    own = np.repeat([0, 1, 2], [60, 60, 200])
    nats = [curve(0.5, 320, 0), curve(0.5, 320, 2), curve(1.0, 320, 4)]
    assert choose(nats, own, np.arange(320)) == [0.5, 0.5, 1.0]


def test_what_cannot_be_told_apart_goes_back_to_the_base() -> None:
    flat = np.random.default_rng(0).normal(5, 1, (200, len(LAMBDAS)))
    assert choose([flat], np.zeros(200, np.int64), np.arange(200)) == [0.0]
    assert choose([flat[:0]], np.zeros(0, np.int64), np.arange(0)) == [0.0]


def test_users_are_counted_and_not_their_samples() -> None:
    """8 users with 20 samples each are below 100: they choose together with the 200 users of the other cluster."""
    own, owner = np.repeat([0, 1, 2], [160, 60, 200]), np.concatenate([np.repeat(np.arange(8), 20), np.arange(8, 268)])
    nats = [curve(1.0, 420, 0), curve(0.25, 420, 2, depth=30), curve(0.75, 420, 4)]
    assert choose(nats, own, np.arange(420)) == [1.0, 0.25, 0.75]
    assert choose(nats, own, owner) == [0.25, 0.25, 0.75]
    assert choose(nats, own, owner, few=8) == choose(nats, own, np.arange(420), few=8) == [1.0, 0.25, 0.75]


def test_a_user_of_several_clusters_is_one_where_they_choose_together() -> None:
    """Two users, each with a sample of either small cluster; four users with these losses would tell them apart."""
    losses = np.array([[-0.05, 9, 9, 9, 0.0], [0.95, 9, 9, 9, 0.0]] * 2)
    nats, own = [losses, losses], np.array([0, 0, 1, 1])
    assert choose(nats, own, np.array([0, 1, 0, 1])) == [0.0, 0.0]
    assert choose(nats, own, np.arange(4)) == [1.0, 1.0]
    assert choose(nats, own, np.zeros(4, np.int64)) == [0.0, 0.0]  # one user shows nothing


def test_copies_of_every_sample_change_nothing() -> None:
    """200 users: 0.1 nats between the best lambda and the base, the standard error of the difference 0.15."""
    gain = np.random.default_rng(0).normal(0, 1, 200)
    gain = 0.1 + 0.15 * np.sqrt(200) * (gain - gain.mean()) / gain.std(ddof=1)
    losses = np.full((200, len(LAMBDAS)), 9.0)
    losses[:, 0], losses[:, -1] = 5 + gain, 5
    own, owner = np.zeros(200, np.int64), np.arange(200)
    assert choose([losses], own, owner) == [0.0]
    for copies in (4, 20):
        many, one = np.repeat(losses, copies, axis=0), np.repeat(own, copies)
        assert choose([many], one, np.repeat(owner, copies)) == [0.0]
        assert choose([many], one, np.arange(200 * copies)) == [1.0], "taken for independent they would decide"


def test_the_better_base_is_taken_and_the_ends_are_exact(tmp_path: Path) -> None:
    words = tiny.vocabulary()
    models = [AutoModelForCausalLM.from_pretrained(p) for p in tiny.predictors(tmp_path, words, 3)]
    select = [Example((1, 4, 5, 2, 1, 6, 7, 2), 5), Example((1, 8, 2, 1, 9, 4, 2), 4)] * 3
    pairs = [e.pair for e in select]
    versions = [
        Version(name, 0, weights_of(m), target_nats(m, pairs)[0]) for name, m in zip("abc", models, strict=True)
    ]
    result = interpolate(models[0], versions[2:], versions[:2], np.zeros(6, np.int64), select, np.arange(6))
    assert result.base == min("ab", key=lambda n: versions["ab".index(n)].nats.sum())
    chosen = result.versions[0]
    load_weights(models[0], chosen.weights)
    assert target_nats(models[0], pairs)[0] == pytest.approx(chosen.nats, abs=1e-5)
    one, two = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}
    assert between(one, two, 0.25)["w"].tolist() == [1.0, 2.0]


def test_without_selection_users_nothing_moves(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny.predictor(tmp_path / "m", tiny.vocabulary()))
    version = Version("a", 1, weights_of(model), np.zeros(0))
    result = interpolate(model, [version], [version], np.zeros(0, np.int64), [], np.arange(0))
    assert result.versions == [version]
    assert result.lambdas == [1.0]
