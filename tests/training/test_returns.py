"""The model of returning, on visitors whose true chance is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from browsing.returns import ReturnModel, Visit
from tests.training.datasets import LOOKBACK_DAYS, MONDAY, visitors, write
from training import returns
from training.dataset import Dataset, Split
from training.returns import fit_returns, return_metrics, return_quality

COUNTS: dict[Split, int] = {"train": 6000, "select": 1200, "calibrate": 800, "test": 1500}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("returns") / "d", returns=visitors(COUNTS)[0])


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> ReturnModel:
    made = fit_returns(dataset, seed=0)
    assert made is not None
    return made


def few(tmp_path: Path, train: int, returned: int) -> Dataset:
    frame = visitors({"train": train, "select": 40})[0]
    came = np.arange(frame.height) < returned
    return write(tmp_path / "d", returns=frame.with_columns(pl.Series("returned", came)))


def test_the_rule_is_found_again(dataset: Dataset, model: ReturnModel) -> None:
    frame, chances = visitors(COUNTS)
    wrong = []
    for (as_of, started, pages, held), true in zip(
        frame.select("as_of", "started_at", "pages", "outcomes").iter_rows(), chances.tolist(), strict=True
    ):
        visits = [Visit(at, n, frozenset(own)) for at, n, own in zip(started, pages, held, strict=True)]
        p = model.probability(visits, as_of)
        assert p is not None
        wrong.append(abs(p - true))
    assert np.mean(wrong) < 0.02
    assert 0.2 < chances.mean() < 0.8
    assert chances.std() > 0.15


def test_it_says_on_whom_it_rests(dataset: Dataset, model: ReturnModel) -> None:
    train = dataset.returns(("train",))
    assert train is not None
    assert (model.users, model.returned) == (6000, int(train["returned"].sum()))
    assert (model.lookback_days, model.as_of) == (LOOKBACK_DAYS, MONDAY.isoformat())
    assert model.outcomes == ("cart", "purchase")


def test_it_is_measured_on_users_that_it_was_not_fitted_on(dataset: Dataset, model: ReturnModel) -> None:
    quality = model.held_out
    assert quality is not None
    held = dataset.returns(("select", "calibrate"))
    assert held is not None
    assert quality.users == 2000
    assert quality.rate == pytest.approx(held["returned"].cast(pl.Float64).sum() / 2000)
    assert quality.mean == pytest.approx(quality.rate, abs=0.03)
    assert quality.auc is not None
    assert quality.auc > 0.65
    assert quality.log_loss < quality.base_log_loss - 0.02
    assert quality.brier < quality.rate * (1 - quality.rate)
    assert quality.ece < quality.null_ece < 0.06
    metrics = return_metrics(model)
    assert metrics["return_auc"] == quality.auc
    assert set(metrics) == {
        f"return_{name}"
        for name in ("users", "rate", "mean", "auc", "log_loss", "base_log_loss", "brier", "ece", "null_ece")
    }
    tested = return_quality(model, dataset, ("test",), seed=0)
    assert tested is not None
    assert tested.users == 1500
    assert tested.log_loss == pytest.approx(quality.log_loss, abs=0.05)


def test_the_fit_is_repeatable(dataset: Dataset, model: ReturnModel) -> None:
    assert fit_returns(dataset, seed=0) == model


def test_very_many_users_are_drawn_from(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "MAX_USERS", 500)
    made = fit_returns(dataset, seed=0)
    assert made is not None
    assert made.users == 500
    assert made == fit_returns(dataset, seed=0) != fit_returns(dataset, seed=1)


@pytest.mark.parametrize(("train", "returned"), [(199, 100), (300, 19), (300, 281), (300, 0)])
def test_too_few_users_make_no_model(tmp_path: Path, train: int, returned: int) -> None:
    assert fit_returns(few(tmp_path, train, returned), seed=0) is None


def test_where_everybody_held_out_stayed_away_there_is_no_auc(tmp_path: Path) -> None:
    made = fit_returns(few(tmp_path, 200, 20), seed=0)
    assert made is not None
    assert made.held_out is not None
    assert made.held_out.rate == 0
    assert made.held_out.auc is None
    assert "return_auc" not in return_metrics(made)


def test_without_anybody_held_out_nothing_is_claimed(tmp_path: Path) -> None:
    made = fit_returns(write(tmp_path / "d", returns=visitors({"train": 300})[0]), seed=0)
    assert made is not None
    assert made.held_out is None
    assert return_metrics(made) == {} == return_metrics(None)


def test_a_short_log_makes_no_model(tmp_path: Path) -> None:
    dataset = write(tmp_path / "d")
    assert fit_returns(dataset, seed=0) is None
