"""The cluster as a token, on users whose kind decides everything, and whose history says nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from browsing.selector import Selector
from browsing.vocabulary import BOS, Vocabulary
from training.batches import Example
from training.controls.token import enlarge, marked, split, tune_token
from training.hetlm.loop import Tuned, Users
from training.predictors import build, load_weights, weights_of
from training.presets import PRESETS
from training.pretrain import pretrain
from training.run import Run
from training.scoring import target_nats
from training.settings import settings_of

VOCABULARY = Vocabulary(["a", "b", "c", "d"])
FORWARD, BACKWARD = (4, 5, 6, 7, 2), (7, 6, 5, 4, 2)
PAIRS = [((1, 4, 2, 1), FORWARD), ((1, 4, 2, 1), BACKWARD)]


def people(n: int, seed: int) -> tuple[list[Example], np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    kinds = generator.integers(2, size=n)
    z = generator.normal(0, 0.2, (n, 3)).astype(np.float32)
    z[:, 0] += 2 * kinds - 1
    return [Example((1, 4, 2, 1, *(BACKWARD if k else FORWARD)), 4) for k in kinds], z, kinds


def told(clusters: int = 2) -> Selector:
    """Cluster 1 for z_0 > 0, cluster 0 below; nobody for the others."""
    selector = Selector(3, clusters)
    with torch.no_grad():
        selector.hidden.weight.zero_()
        selector.hidden.bias.zero_()
        selector.hidden.weight[0, 0], selector.hidden.weight[1, 0] = 1.0, -1.0
        selector.output.weight.zero_()
        selector.output.bias.fill_(-99.0)
        selector.output.bias[:2] = 0.0
        selector.output.weight[0, 1] = selector.output.weight[1, 0] = 5.0
    return selector


def open_run(root: Path, critic: Literal["target", "all"] = "target") -> Run:
    settings = settings_of(
        "demo",
        method="token",
        losses="scaled",
        clusters=2,
        context=32,
        max_steps=8,
        epochs=2,
        tune_epochs=12,
        tune_batch_size=32,
        batch_size=32,
        predictor_learning_rate=1e-3,
        warm_start="none",
        critic=critic,
    )
    return Run(root, settings)


def shared_model(root: Path) -> nn.Module:
    items, _, _ = people(120, 1)
    held, _, _ = people(40, 2)
    model = build(PRESETS["demo"], VOCABULARY, 32, seed=0)
    pretrain(model, items, held, open_run(root), lambda stage, epoch: None)
    return model


def fit(root: Path, model: nn.Module, clusters: int = 2, stop_after: int | None = None) -> Tuned:
    items, z, kinds = people(120, 1)
    held, held_z, _ = people(40, 2)

    def after_epoch(stage: str, epoch: int) -> None:
        if epoch == stop_after:
            raise KeyboardInterrupt

    return tune_token(told(clusters), model, Users(items, z, kinds), Users(held, held_z), open_run(root), after_epoch)


def test_one_model_told_the_cluster_knows_what_it_alone_cannot(tmp_path: Path) -> None:
    model = shared_model(tmp_path / "shared")
    before = weights_of(model)
    tuned = fit(tmp_path / "token", model)
    # Without the kind a session of 5 tokens costs log 2.
    assert tuned.shared_loss > 0.9 * np.log(2) / 5
    assert tuned.system.loss < 0.5 * np.log(2) / 5
    assert all(torch.equal(weight, weights_of(model)[name]) for name, weight in before.items())
    held, held_z, kinds = people(40, 2)
    assert (tuned.selector.probabilities(torch.from_numpy(held_z)).argmax(1).numpy() == kinds).all()
    assert (tuned.own == people(120, 1)[2]).all()
    # As it is served: each cluster's predictor scores its own users by the plain prompt.
    nats = []
    for k, version in enumerate(tuned.system.versions):
        load_weights(model, version.weights)
        own, tokens = target_nats(model, [e.pair for e in held])
        assert version.nats == pytest.approx(own)
        nats.append(own[kinds == k].sum())
        assert version.name == f"{k}@{tuned.system.epoch}"
    assert tuned.system.loss == pytest.approx(sum(nats) / tokens.sum())


def test_the_predictors_share_everything_but_one_row(tmp_path: Path) -> None:
    tuned = fit(tmp_path / "token", shared_model(tmp_path / "shared"))
    first, second = (version.weights for version in tuned.system.versions)
    differing = {name for name in first if not torch.equal(first[name], second[name])}
    assert differing == {"model.embed_tokens.weight"}
    (name,) = differing
    rows = (first[name] != second[name]).any(1)
    assert rows.nonzero().flatten().tolist() == [BOS]


def test_it_goes_on_after_an_interruption(tmp_path: Path) -> None:
    model = shared_model(tmp_path / "shared")
    whole = fit(tmp_path / "whole", model)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "broken", model, stop_after=2)
    again = fit(tmp_path / "broken", model)
    for one, other in zip(whole.system.versions, again.system.versions, strict=True):
        assert all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())
    assert again.system.loss == whole.system.loss


def test_a_cluster_of_nobody_is_dropped(tmp_path: Path) -> None:
    tuned = fit(tmp_path / "token", shared_model(tmp_path / "shared"), clusters=4)
    assert tuned.selector.clusters == len(tuned.system.versions) == 2


def test_it_wants_the_start_and_the_target_alone(tmp_path: Path) -> None:
    items, z, kinds = people(20, 1)
    model = build(PRESETS["demo"], VOCABULARY, 32, seed=0)
    with pytest.raises(ValueError, match="needs the start's clusters"):
        tune_token(told(), model, Users(items, z), Users(items, z), open_run(tmp_path), lambda stage, epoch: None)
    run = open_run(tmp_path / "all", critic="all")
    with pytest.raises(ValueError, match="critic all"):
        tune_token(told(), model, Users(items, z, kinds), Users(items, z), run, lambda stage, epoch: None)


def test_every_session_begins_with_the_clusters_token() -> None:
    [first, second] = marked([Example((1, 4, 2, 1, 5, 2), 4), Example((1, 5, 2), 1)], np.array([2, 0]), 8)
    assert first == Example((10, 4, 2, 10, 5, 2), 4)
    assert second == Example((8, 5, 2), 1)


def weights_in(model: nn.Module) -> torch.Tensor:
    return dict(model.named_parameters())["model.embed_tokens.weight"]


@pytest.mark.parametrize("tied", [True, False])
def test_splitting_undoes_enlarging(tied: bool) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).eval()
    enlarged = enlarge(model, 3)
    before = weights_of(model)
    for weights in split(enlarged, weights_of(enlarged), 3):
        assert weights.keys() == before.keys()
        assert all(torch.equal(weights[name], weight) for name, weight in before.items())
    with torch.no_grad():
        weights_in(enlarged)[8:] += torch.randn(3, 16)
    for k, weights in enumerate(split(enlarged, weights_of(enlarged), 3)):
        load_weights(model, weights)
        ids = torch.tensor([[1, 4, 2, 1, 5]])
        with torch.no_grad():
            served = model(input_ids=ids).logits
            trained = enlarged(input_ids=torch.where(ids == BOS, 8 + k, ids)).logits
        assert torch.allclose(served[..., 2:8], trained[..., 2:8], atol=1e-5)
