"""An interrupted run ends with the same weights, bit for bit, as one that was not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import TinyEncoder
from tests.training.datasets import write
from training.dataset import Dataset
from training.pipeline import Trained, run_data, train_bundle_parts
from training.run import Run
from training.settings import Method, settings_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("data") / "shop")


def open_run(runs: Path, dataset: Dataset, method: Method = "hetlm") -> Run:
    settings = settings_of(
        "demo",
        method=method,
        clusters=3,
        losses="scaled",
        context=64,
        warm_users=40,
        warm_epochs=2,
        epochs=2,
        tune_epochs=3,
        batch_size=16,
        tune_batch_size=16,
        max_steps=8,
    )
    return Run.open(runs, settings, run_data(dataset, TinyEncoder()))


def interrupted(run: Run, dataset: Dataset, stage: str, epoch: int) -> None:
    def stop(at: str, finished: int) -> None:
        if (at, finished) == (stage, epoch):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_bundle_parts(dataset, TinyEncoder(), run, CPU, stop)


def same(a: Trained, b: Trained) -> None:
    assert [v.name for v in a.tuned.system.versions] == [v.name for v in b.tuned.system.versions]
    for left, right in zip(a.tuned.system.versions, b.tuned.system.versions, strict=True):
        assert left.weights.keys() == right.weights.keys()
        assert all(torch.equal(left.weights[n], right.weights[n]) for n in left.weights)
    assert (a.shared / "model.safetensors").read_bytes() == (b.shared / "model.safetensors").read_bytes()
    states = a.tuned.selector.state_dict(), b.tuned.selector.state_dict()
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])
    assert np.array_equal(a.tuned.own, b.tuned.own)
    assert a.losses == b.losses


@pytest.mark.parametrize("method", ["hetlm", "kmeans", "mixture", "token"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path, dataset: Dataset, method: Method) -> None:
    whole = open_run(tmp_path / "whole", dataset, method)
    expected = train_bundle_parts(dataset, TinyEncoder(), whole, CPU)

    broken = open_run(tmp_path / "broken", dataset, method)
    assert broken.root.name == whole.root.name
    tuning = "mixture" if method == "mixture" else "tune"
    interrupted(broken, dataset, "warm", 1)
    interrupted(broken, dataset, "pretrain", 1)
    if method in ("hetlm", "mixture"):  # they move back towards the single predictor
        interrupted(broken, dataset, "single", 1)
    interrupted(broken, dataset, tuning, 1)
    interrupted(broken, dataset, tuning, 2)
    same(train_bundle_parts(dataset, TinyEncoder(), broken, CPU), expected)

    for stage in ("warm", "pretrain", tuning):
        kept = [{k: v for k, v in r.items() if k != "seconds"} for r in broken.records(stage)]
        assert kept == [{k: v for k, v in r.items() if k != "seconds"} for r in whole.records(stage)]
        left, right = (_holding(run, stage).load(stage) for run in (broken, whole))
        assert left is not None
        assert right is not None
        assert left.tensors.keys() == right.tensors.keys()
        assert all(torch.equal(left.tensors[n], right.tensors[n]) for n in left.tensors)
    # the weights did move: equality is not that of two runs that did nothing
    assert any(v.name != "shared" for v in expected.tuned.system.versions)


def _holding(run: Run, stage: str) -> Run:
    """Where the stage's state is kept."""
    return Run(run.pretraining, run.settings) if stage in ("warm", "pretrain") else run


def test_methods_share_the_pretraining(tmp_path: Path, dataset: Dataset) -> None:
    epochs: list[str] = []
    losses = []
    methods: tuple[Method, ...] = ("single", "kmeans")
    for method in methods:
        run = open_run(tmp_path, dataset, method)
        trained = train_bundle_parts(dataset, TinyEncoder(), run, CPU, lambda stage, epoch: epochs.append(stage))
        losses.append(trained.losses["shared"])
        assert run.records("pretrain"), "every run's own log tells of it"
    assert epochs.index("tune") == epochs.count("pretrain") + epochs.count("warm"), (
        "nothing is pretrained after the first run's pretraining"
    )
    assert losses[0] == losses[1]


def test_a_finished_run_is_not_trained_again(tmp_path: Path, dataset: Dataset) -> None:
    run = open_run(tmp_path, dataset)
    first = train_bundle_parts(dataset, TinyEncoder(), run, CPU)
    epochs: list[tuple[str, int]] = []
    again = train_bundle_parts(dataset, TinyEncoder(), run, CPU, lambda stage, epoch: epochs.append((stage, epoch)))
    assert epochs == []
    same(again, first)


def test_a_half_written_state_is_not_taken(tmp_path: Path, dataset: Dataset) -> None:
    run = open_run(tmp_path, dataset)
    interrupted(run, dataset, "tune", 1)
    (run.root / "tune" / "partial").mkdir()
    (run.root / "tune" / "partial" / "state.json").write_text("{")
    state = run.load("tune")
    assert state is not None
    assert state.epoch == 1


def test_settings_and_data_name_the_run(tmp_path: Path, dataset: Dataset) -> None:
    run = open_run(tmp_path, dataset)
    other = Run.open(tmp_path, run.settings.model_copy(update={"seed": 1}), run_data(dataset, TinyEncoder()))
    changed = Run.open(tmp_path, run.settings, {**run_data(dataset, TinyEncoder()), "train.parquet": "other"})
    assert len({run.root, other.root, changed.root}) == 3
