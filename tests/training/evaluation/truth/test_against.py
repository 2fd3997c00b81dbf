"""An evaluation beside a simulation's truth: a forecaster that knows it, and one that does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.training.datasets import write
from tests.training.evaluation.documents import evaluation
from training.dataset import Dataset
from training.evaluation.compare.paired import ComparisonError, Result
from training.evaluation.run import fingerprint
from training.evaluation.truth.against import against_truth
from training.evaluation.users import pseudonyms


def place(tmp_path: Path, clusters: list[int], shift: float) -> tuple[Result, Dataset, Path]:
    dataset = write(tmp_path / "shop", held=6)
    samples = dataset.samples("test")
    n = len(samples)
    kinds = [user % 2 for user in range(n)]
    true = np.linspace(0.1, 0.6, n)
    pl.DataFrame(
        {
            "user_id": [s.user_id for s in samples],
            "kind": kinds,
            "bayes_nll": [6.0] * n,
            "next_pages": [3] * n,
            "posterior": [[0.9, 0.1] if k == 0 else [0.2, 0.8] for k in kinds],
            "cart_probability": true,
            "purchase_probability": true / 2,
        }
    ).write_parquet(tmp_path / "truth.parquet")
    about = evaluation().model_copy(update={"dataset_sha256": fingerprint(dataset.info)})
    about = about.model_copy(update={"settings": about.settings.model_copy(update={"split": "test"})})
    names, numbers = pseudonyms(samples, about.dataset_sha256)
    frame = pl.DataFrame(
        {
            "user": names,
            "sample": numbers,
            "cluster": [clusters[k] for k in kinds],
            "nats": [9.0] * n,
            "tokens": [3] * n,
            "cart.happened": [True, False] * (n // 2) + [True] * (n % 2),
            "cart.raw": true + shift,
            "cart.calibrated": true,
        }
    )
    return Result(tmp_path / "run.json", about, frame), dataset, tmp_path / "truth.parquet"


def test_who_knows_the_truth_is_the_best(tmp_path: Path) -> None:
    found = against_truth(*place(tmp_path, [1, 0], 0.05))
    assert (found.ari, found.best_ari) == (1.0, 1.0)  # the clusters' numbers do not matter
    assert found.nats_per_page == pytest.approx(3.0)
    assert found.best_nats_per_page == pytest.approx(2.0)
    cart = found.outcomes["cart"]
    assert cart.raw_error == pytest.approx(0.05)
    assert cart.calibrated_error == pytest.approx(0.0)
    assert cart.log_loss == pytest.approx(cart.best_log_loss)
    assert set(found.outcomes) == {"cart"}


def test_one_cluster_says_nothing_of_the_kinds(tmp_path: Path) -> None:
    assert against_truth(*place(tmp_path, [0, 0], 0.0)).ari == 0.0


def test_another_simulation_is_refused(tmp_path: Path) -> None:
    result, dataset, truth = place(tmp_path, [0, 1], 0.0)
    pl.read_parquet(truth).head(1).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(ComparisonError, match="another simulation"):
        against_truth(result, dataset, tmp_path / "other.parquet")
    pl.read_parquet(truth).drop("cart_probability").write_parquet(tmp_path / "bare.parquet")
    with pytest.raises(ComparisonError, match="--truth"):
        against_truth(result, dataset, tmp_path / "bare.parquet")
    other = write(tmp_path / "other", held=5)
    with pytest.raises(ComparisonError, match="is not about"):
        against_truth(result, other, truth)
