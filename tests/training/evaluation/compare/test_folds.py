"""Folds taken together: the users of all of them, each forecast by the model that had not seen her."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.training.evaluation.compare.test_paired import N, values, written
from training.evaluation.compare.folds import pooled
from training.evaluation.compare.paired import ComparisonError, Result, compare


def fold(folder: Path, number: int, method: str, better: float = 0.0, **changes: object) -> Result:
    frame = values(seed=number, better=better)
    own = {"dataset": f"shop-{number}", "dataset_sha256": f"{number:064d}", "vocabulary_sha256": f"{number:064d}"}
    return written(folder / f"{method}-{number}.json", frame, method=method, **{**own, **changes})


def test_differences_are_those_of_all_users_together(tmp_path: Path) -> None:
    single = [fold(tmp_path, number, "single") for number in range(3)]
    mixture = [fold(tmp_path, number, "mixture", better) for number, better in enumerate((0.0, 0.03, 0.06))]
    base, other = pooled([*single, *mixture[::-1]], "shop")
    comparison = compare(base, [other], resamples=200, seed=0)
    assert (comparison.dataset, comparison.n, comparison.users) == ("shop", 3 * N, 3 * N)
    assert (base.document.method, other.document.method) == ("single", "mixture")
    differences = comparison.others[0].differences
    frames = [(s.frame, m.frame) for s, m in zip(single, mixture, strict=True)]
    iou = np.mean([(m["consensus.iou"] - s["consensus.iou"]).to_numpy().mean() for s, m in frames])
    assert differences["pages.iou"].difference == pytest.approx(iou)
    nats, tokens = (sum(float(f[name].sum()) for f, _ in frames) for name in ("nats", "tokens"))
    assert differences["loss.nats_per_page"].reference == pytest.approx(nats / tokens)
    together = pl.concat([f for f, _ in frames])
    order = together.sort("cart.calibrated")["cart.happened"].to_numpy()
    ranks = np.arange(1, len(order) + 1)[order]
    auc = (ranks.sum() - len(ranks) * (len(ranks) + 1) / 2) / (len(ranks) * (~order).sum())
    assert differences["cart.auc"].reference == pytest.approx(auc, abs=1e-6)


def test_users_of_two_folds_stay_two_users(tmp_path: Path) -> None:
    results = [fold(tmp_path, number, method) for method in ("single", "mixture") for number in range(2)]
    for result in pooled(results, "shop"):
        assert result.frame["user"].n_unique() == 2 * N


def test_only_columns_that_all_folds_have_are_compared(tmp_path: Path) -> None:
    results = [fold(tmp_path, number, method) for method in ("single", "mixture") for number in range(2)]
    document = results[1].document
    names = ("method", "dataset", "dataset_sha256", "vocabulary_sha256")
    kept = {name: getattr(document, name) for name in names}
    short = written(results[1].path, results[1].frame.drop("nats", "tokens"), **kept)
    base, other = pooled([results[0], short, *results[2:]], "shop")
    differences = compare(base, [other], resamples=100, seed=0).others[0].differences
    assert "loss.nats_per_page" not in differences
    assert "pages.iou" in differences


def test_incomplete_folds_are_refused(tmp_path: Path) -> None:
    single = [fold(tmp_path, number, "single") for number in range(2)]
    mixture = fold(tmp_path, 0, "mixture")
    with pytest.raises(ComparisonError, match="the method mixture has no result on the fold shop-1"):
        pooled([*single, mixture], "shop")
    with pytest.raises(ComparisonError, match="both of the method single on the fold shop-0"):
        pooled([*single, single[0]], "shop")
    with pytest.raises(ComparisonError, match="all results are on one dataset"):
        pooled([single[0], mixture], "shop")


def test_one_way_of_decoding_for_all_folds(tmp_path: Path) -> None:
    first, second = (fold(tmp_path, number, "single") for number in range(2))
    settings = second.document.settings.model_copy(update={"decode": "greedy"})
    greedy = fold(tmp_path, 1, "single", settings=settings)
    with pytest.raises(ComparisonError, match="choose one with --decode"):
        pooled([first, greedy], "shop")
    assert len(pooled([first, greedy], "shop", "consensus")) == 1
    assert len(pooled([first, second], "shop")) == 1
