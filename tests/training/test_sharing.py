"""What runs share: settings that a stage depends on name the directory that it is kept in, all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import TinyEncoder
from tests.training.datasets import write
from training.dataset import Dataset
from training.pipeline import run_data, train_bundle_parts
from training.run import METHOD, PRETRAINING, SINGLE, Run
from training.settings import Method, Settings, settings_of

OTHER: dict[str, Any] = {
    "method": "kmeans",
    "start": "markov",
    "losses": "paper",
    "preset": "small",
    "checkpoint": "some/place",
    "times": 2,
    "warm_start": "none",
    "encoder": "predictor",
    "decay": 0.5,
    "interpolate": False,
    "choose_clusters": True,
    "warm_users": 7,
    "warm_epochs": 9,
    "hold": 3,
    "seed": 7,
    "clusters": 9,
    "alpha": 0.7,
    "beta": 0.7,
    "context": 128,
    "max_steps": 9,
    "learning_rate": 0.5,
    "weight_decay": 0.5,
    "warmup": 0.5,
    "epochs": 9,
    "patience": 9,
    "batch_size": 9,
    "accumulate": 9,
    "limit_batches": 9,
    "precision": "bf16",
    "dropout": 0.0,
    "tune_epochs": 9,
    "tune_batch_size": 9,
    "predictor_learning_rate": 0.5,
    "predictor_weight_decay": 0.5,
    "selector_learning_rate": 0.5,
    "selector_weight_decay": 0.5,
    "critic": "all",
    "temperature": 9.0,
    "smoothing": 0.5,
    "centroid_rate": 0.5,
}
"""For every setting a value that is not the preset's."""


def small(method: Method = "hetlm") -> Settings:
    return settings_of(
        "demo",
        method=method,
        clusters=2,
        losses="scaled",
        context=64,
        max_steps=8,
        warm_users=20,
        warm_epochs=1,
        epochs=1,
        tune_epochs=1,
    )


def test_every_setting_says_what_depends_on_it() -> None:
    """A new one has to be put into one of the three, or runs would share what is not theirs."""
    every = set(Settings.model_fields)
    assert set(OTHER) == every, "give the new setting another value above"
    assert every == PRETRAINING | SINGLE | METHOD
    assert not PRETRAINING & SINGLE
    assert not (PRETRAINING | SINGLE) & METHOD


@pytest.mark.parametrize("name", sorted(OTHER))
def test_a_changed_setting_renames_what_depends_on_it_and_nothing_else(tmp_path: Path, name: str) -> None:
    # `critic` and `losses` of the single predictor are its own, whatever the clusters' are: see `Settings.single`.
    settings = small("single" if name in ("critic", "losses") else "hetlm")
    assert getattr(settings, name) != OTHER[name]
    first = Run.open(tmp_path, settings, {})
    other = Run.open(tmp_path, settings.model_copy(update={name: OTHER[name]}), {})
    assert other.root != first.root
    assert other.shared == first.shared
    assert (other.pretraining != first.pretraining) == (name in PRETRAINING)
    assert (other.single != first.single) == (name in PRETRAINING | SINGLE)


class Watched(Settings):
    """Settings that write down what is asked of them."""

    def __getattribute__(self, name: str) -> Any:
        if name in Settings.model_fields:
            ASKED.add(name)
        return super().__getattribute__(name)


ASKED: set[str] = set()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("data") / "shop", train=16, held=4)


def test_what_pretraining_asks_for_names_its_directory(tmp_path: Path, dataset: Dataset) -> None:
    asked = asked_until("pretrain", tmp_path, dataset)
    asked -= {"clusters", "choose_clusters", "start"}  # of the Markov mixture, which stands in the run's own directory
    assert asked <= PRETRAINING
    assert {"dropout", "learning_rate", "warm_users"} <= asked


def test_what_the_single_predictor_asks_for_names_its_directory(tmp_path: Path, dataset: Dataset) -> None:
    asked = asked_until("single", tmp_path, dataset) - {"choose_clusters", "start"}
    # What `single()` decides for every method alike, and what a selector that learns nothing is given.
    asked -= {"method", "clusters", "interpolate", "alpha", "selector_learning_rate", "selector_weight_decay"}
    assert asked <= PRETRAINING | SINGLE
    assert {"dropout", "critic", "tune_epochs", "predictor_learning_rate"} <= asked


def asked_until(last: str, runs: Path, dataset: Dataset) -> set[str]:
    """The settings that are asked for until the first epoch of the stage `last` is through."""

    def stop(stage: str, epoch: int) -> None:
        if stage == last:
            raise KeyboardInterrupt

    run = Run.open(runs / last, Watched.model_validate(small().model_dump()), run_data(dataset, TinyEncoder()))
    ASKED.clear()
    with pytest.raises(KeyboardInterrupt):
        train_bundle_parts(dataset, TinyEncoder(), run, torch.device("cpu"), stop)
    return set(ASKED)


def test_the_single_predictors_log_does_not_depend_on_who_trained_it(tmp_path: Path, dataset: Dataset) -> None:
    """Its records go into every run's log, and so into bundles, which must not differ by who came first."""
    run = Run.open(tmp_path, small("single"), run_data(dataset, TinyEncoder()))
    train_bundle_parts(dataset, TinyEncoder(), run, torch.device("cpu"))
    assert [record["alpha"] for record in run.records("tune")] == [None]
