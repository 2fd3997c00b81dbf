"""Expectation-maximisation on users of two kinds whose next page depends on the kind alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from browsing.vocabulary import Vocabulary
from training.batches import Example
from training.mixture.loop import STAGE, Explained, explain
from training.predictors import build
from training.presets import PRESETS
from training.pretrain import pretrain
from training.run import Run
from training.settings import settings_of
from training.teach import teach

VOCABULARY = Vocabulary(["a", "b", "c", "d"])
FORWARD, BACKWARD = (4, 5, 6, 7, 2), (7, 6, 5, 4, 2)


def people(n: int, seed: int) -> tuple[list[Example], np.ndarray]:
    """Every user walks one way in history and next session; the kinds."""
    kinds = np.random.default_rng(seed).integers(2, size=n)
    return [Example((1, *(w := BACKWARD if k else FORWARD), 1, *w), 7) for k in kinds], kinds


class Stopped(Exception):
    pass


def open_run(root: Path, epochs: int = 3) -> Run:
    settings = settings_of(
        "demo",
        method="mixture",
        clusters=3,
        context=32,
        max_steps=8,
        epochs=1,
        tune_epochs=epochs,
        tune_batch_size=16,
        batch_size=32,
        predictor_learning_rate=1e-3,
    )
    return Run(root, settings)


def run_em(root: Path, stop_after: int | None = None) -> tuple[Explained, np.ndarray, Run]:
    run = open_run(root)
    train, kinds = people(160, 1)
    select, _ = people(60, 2)
    model = build(PRESETS["demo"], VOCABULARY, 32, seed=0)
    pretrain(model, train, select, run, lambda stage, epoch: None)
    generator = np.random.default_rng(5)
    # A start in three clusters that is right for seven users of ten; the first kind is split between two.
    label = np.where(generator.random(160) < 0.7, kinds, 1 - kinds)
    label = np.where((label == 0) & (generator.random(160) < 0.5), 2, label)

    def after(stage: str, epoch: int) -> None:
        if stage == STAGE and epoch == stop_after:
            raise Stopped

    return explain(model, train, select, np.arange(60), np.eye(3)[label], run, after), kinds, run


def test_the_kinds_are_found_and_clusters_merge(tmp_path: Path) -> None:
    explained, kinds, run = run_em(tmp_path)
    own = explained.train.argmax(1)
    records = run.records(STAGE)
    assert len(explained.versions) == explained.train.shape[1] == 2
    assert max((own == kinds).mean(), (own != kinds).mean()) == 1.0
    assert [r["clusters"] for r in records][-1] == 2
    assert explained.train.sum(1) == pytest.approx(np.ones(160))
    assert explained.weights == pytest.approx(explained.train.mean(0), abs=0.02)
    # z says the kind: the selector learns it, and every user is served by the predictor of the kind.
    z = (2 * kinds[:, None] - 1 + np.random.default_rng(0).normal(0, 0.1, (160, 2))).astype(np.float32)
    held_kinds = people(60, 2)[1]
    held = (2 * held_kinds[:, None] - 1 + np.random.default_rng(1).normal(0, 0.1, (60, 2))).astype(np.float32)
    tuned = teach(explained, z, held, np.full(60, 5), seed=0)
    assert (tuned.own == own).mean() > 0.98
    assert tuned.system.loss <= tuned.shared_loss


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, *_ = run_em(tmp_path / "whole")
    with pytest.raises(Stopped):
        run_em(tmp_path / "halves", stop_after=2)
    resumed, *_ = run_em(tmp_path / "halves")
    assert resumed.train.tolist() == whole.train.tolist()
    for one, other in zip(whole.versions, resumed.versions, strict=True):
        assert one.name == other.name
        assert all(bool((one.weights[n] == other.weights[n]).all()) for n in one.weights)


def test_without_rounds_the_shared_predictor_serves(tmp_path: Path) -> None:
    train, _ = people(20, 1)
    run = open_run(tmp_path, epochs=0)
    model = build(PRESETS["demo"], VOCABULARY, 32, seed=0)
    explained = explain(model, train, [], np.arange(0), np.eye(2)[np.arange(20) % 2], run, lambda s, e: None)
    assert {v.name for v in explained.versions} == {"shared"}
