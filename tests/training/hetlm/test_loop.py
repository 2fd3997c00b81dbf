"""Actor-critic fine-tuning on users whose kind decides everything, and whose history says nothing of it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from browsing.selector import Selector
from browsing.vocabulary import Vocabulary
from training.batches import Example, collate
from training.hardware import Hardware
from training.hetlm.ensemble import Ensemble
from training.hetlm.loop import Tuned, Users, _Sums, train_batch, tune
from training.predictors import build, weights_of
from training.presets import PRESETS
from training.pretrain import pretrain
from training.run import Run
from training.settings import Method, settings_of
from training.starts import Assignment, copy_start

HARDWARE = Hardware(torch.device("cpu"))
VOCABULARY = Vocabulary(["a", "b", "c", "d"])
FORWARD, BACKWARD = (4, 5, 6, 7, 2), (7, 6, 5, 4, 2)


def people(n: int, seed: int) -> tuple[list[Example], np.ndarray, np.ndarray, np.ndarray]:
    """Examples, embeddings, true kinds, and a start that is right for three users of four. Both the kind and what
    misleads the start are in the embedding."""
    generator = np.random.default_rng(seed)
    kinds = generator.integers(2, size=n)
    misled = generator.random(n) < 0.25
    z = generator.normal(0, 0.3, (n, 4)).astype(np.float32)
    z[:, 0] += 2 * kinds - 1
    z[:, 1] += 2 * misled - 1
    items = [Example((1, 4, 2, 1, *(BACKWARD if k else FORWARD)), 4) for k in kinds]
    return items, z, kinds, np.where(misled, 1 - kinds, kinds)


def open_run(root: Path, method: Method = "hetlm", clusters: int = 2, dropout: float = 0.0) -> Run:
    settings = settings_of(
        "demo",
        method=method,
        losses="scaled",
        clusters=clusters,
        context=32,
        max_steps=8,
        epochs=2,
        tune_epochs=6,
        tune_batch_size=32,
        batch_size=32,
        dropout=dropout,
        predictor_learning_rate=3e-4,
        selector_learning_rate=3e-3,
    )
    return Run(root, settings)


def fit(root: Path, method: Method = "hetlm") -> tuple[Tuned, np.ndarray, Run]:
    run = open_run(root, method)
    items, z, kinds, start = people(300, 1)
    held, held_z, _, held_start = people(100, 2)
    clusters = run.settings.kinds
    eye = np.eye(clusters, dtype=np.float32)
    if clusters == 1:
        start, held_start = np.zeros_like(start), np.zeros_like(held_start)
    model = build(PRESETS["demo"], VOCABULARY, 32, seed=0)
    pretrain(model, items, held, run, lambda stage, epoch: None)
    selector = copy_start(z, held_z, Assignment(eye[start], eye[held_start]), seed=0, temperature=2.0, smoothing=0.1)
    users, others = Users(items, z, start), Users(held, held_z)
    return tune(selector, model, users, others, run, lambda stage, epoch: None), kinds, run


def agreement(own: np.ndarray, kinds: np.ndarray) -> float:
    same = float((own == kinds).mean())
    return max(same, 1 - same)


def test_hetlm_leaves_a_poor_start_and_finds_the_kinds(tmp_path: Path) -> None:
    tuned, kinds, run = fit(tmp_path / "hetlm")
    single, _, _ = fit(tmp_path / "single", "single")
    kmeans, _, _ = fit(tmp_path / "kmeans", "kmeans")
    records = run.records("tune")
    assert sum(r["moved"] for r in records) > 30
    assert agreement(tuned.own, kinds) > 0.95
    assert agreement(kmeans.own, kinds) < 0.85
    # One model cannot know the kind: it pays log 2 per session of 5 tokens.
    assert single.system.loss > 0.95 * np.log(2) / 5
    assert tuned.system.loss < 0.5 * single.system.loss
    assert tuned.system.loss < kmeans.system.loss


def test_every_epoch_is_logged(tmp_path: Path) -> None:
    _, _, run = fit(tmp_path)
    records = run.records("tune")
    assert [r["epoch"] for r in records] == [1, 2, 3, 4, 5, 6]
    for record in records:
        assert sum(record["sizes"]) == 300
        assert record["clusters"] == len(record["sizes"])
        assert 0 <= record["moved"] <= 300
        assert record["kept_loss"] <= record["shared_loss"]
        assert {"train_loss", "validation_loss", "seconds"} <= record.keys()
        if record["epoch"] == 1:  # held: the critics alone learn
            assert (record["moved"], record["l1"]) == (0, None)
            continue
        total = record["l1"] + run.settings.alpha * record["l2"] + run.settings.beta * record["l3"]
        assert record["l1"] < record["selector_loss"] < total  # alpha rises from 0 to its value


@pytest.mark.parametrize("method", ["kmeans", "single"])
def test_the_baselines_move_nobody(tmp_path: Path, method: Method) -> None:
    tuned, _, run = fit(tmp_path, method)
    assert all(r["moved"] == 0 for r in run.records("tune"))
    assert all(r["l1"] is None for r in run.records("tune"))
    assert tuned.selector.clusters == (1 if method == "single" else 2)


def ensemble(run: Run, selector: Selector) -> tuple[Ensemble, nn.Module]:
    shared = build(PRESETS["demo"], VOCABULARY, 32, seed=0)
    return Ensemble(selector, shared, torch.randn(selector.clusters, 4), run.settings), shared


def fixed_selector(bias: list[float]) -> Selector:
    selector = Selector(4, len(bias))
    with torch.no_grad():
        selector.output.weight.zero_()
        selector.output.bias.copy_(torch.tensor(bias))
    return selector


def test_a_critic_learns_from_its_own_users_alone(tmp_path: Path) -> None:
    """Equation 2: with every argmax at cluster 1, predictors 0 and 2 stay as they are."""
    torch.manual_seed(0)
    both, shared = ensemble(open_run(tmp_path, clusters=3), fixed_selector([0.0, 1.0, 0.0]))
    items, z, _, _ = people(16, 1)
    before = weights_of(shared)
    batch = collate(items, np.arange(16), torch.device("cpu"))
    train_batch(both, batch, torch.from_numpy(z), None, 0.1, _Sums(), HARDWARE)
    after = [weights_of(p) for p in both.predictors]
    assert all(torch.equal(before[n], after[0][n]) and torch.equal(before[n], after[2][n]) for n in before)
    assert any(not torch.equal(before[n], after[1][n]) for n in before)


@pytest.mark.parametrize("held", [False, True])
def test_dropout_is_for_fixed_clusters(tmp_path: Path, held: bool) -> None:
    """A selector that learns compares its users' own predictor with the others: none may be heard through dropout."""
    items, z, kinds, _ = people(16, 1)
    batch = collate(items, np.arange(16), torch.device("cpu"))
    labels = torch.from_numpy(kinds) if held else None
    learnt = []
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        both, _ = ensemble(open_run(tmp_path / str(dropout), dropout=dropout), fixed_selector([0.0, 1.0]))
        train_batch(both, batch, torch.from_numpy(z), labels, 0.1, _Sums(), HARDWARE)
        learnt.append(weights_of(both.predictors[1]))
    assert all(torch.equal(learnt[0][n], learnt[1][n]) for n in learnt[0]) != held


def test_the_critic_step_is_that_of_its_own_rows(tmp_path: Path) -> None:
    """Two fixed clusters give each predictor the step that it takes when trained on its rows alone."""
    run = open_run(tmp_path, "kmeans")
    items, z, kinds, _ = people(16, 1)
    device = torch.device("cpu")
    both, _ = ensemble(run, fixed_selector([0.0, 0.0]))
    alone, _ = ensemble(run, fixed_selector([0.0, 0.0]))
    labels = torch.from_numpy(kinds)
    train_batch(both, collate(items, np.arange(16), device), torch.from_numpy(z), labels, 0.0, _Sums(), HARDWARE)
    for k in range(2):
        rows = np.flatnonzero(kinds == k)
        train_batch(
            alone, collate(items, rows, device), torch.from_numpy(z[rows]), labels[rows], 0.0, _Sums(), HARDWARE
        )
    for left, right in zip(both.predictors, alone.predictors, strict=True):
        one, other = weights_of(left), weights_of(right)
        assert all(torch.allclose(one[n], other[n], atol=1e-6) for n in one)


def test_a_cluster_without_users_is_dropped(tmp_path: Path) -> None:
    run = open_run(tmp_path, clusters=3)
    items, z, _, start = people(40, 1)
    held, held_z, _, _ = people(10, 2)
    shared = build(PRESETS["demo"], VOCABULARY, 32, seed=0)
    tuned = tune(
        fixed_selector([0.0, -50.0, 0.5]),
        shared,
        Users(items, z, start),
        Users(held, held_z),
        run,
        lambda stage, epoch: None,
    )
    assert tuned.selector.clusters < 3
    assert len(tuned.system.versions) == tuned.selector.clusters
    assert set(tuned.own) == set(range(tuned.selector.clusters))


def test_dropping_keeps_what_remains(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = open_run(tmp_path, clusters=3)
    both, _ = ensemble(run, Selector(4, 3))
    items, z, _, _ = people(32, 1)
    batch, zs = collate(items, np.arange(32), torch.device("cpu")), torch.from_numpy(z)
    train_batch(both, batch, zs, None, 0.1, _Sums(), HARDWARE)
    logits = both.selector(zs).detach()
    moments = both.actor.state[both.selector.output.weight]["exp_avg"].clone()
    last = copy.deepcopy(weights_of(both.predictors[2]))
    both.keep([0, 2])
    assert torch.allclose(both.selector(zs), logits[:, [0, 2]])
    assert torch.equal(both.actor.state[both.selector.output.weight]["exp_avg"], moments[[0, 2]])
    assert both.origins == [0, 2]
    kept = weights_of(both.predictors[1])
    assert all(torch.equal(last[n], kept[n]) for n in last)
