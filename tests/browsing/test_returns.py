"""The features of a visitor's earlier visits, and the stored model of who comes back."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from browsing.logistic import Feature
from browsing.returns import ReturnModel, Visit, feature_names, features, visits_of

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
OUTCOMES = ("cart", "purchase")


def ago(days: float, pages: int = 3, *outcomes: str) -> Visit:
    return Visit(NOW - timedelta(days=days), pages, frozenset(outcomes))


def named(visits: list[Visit], lookback_days: float = 30.0) -> dict[str, float]:
    values = features(visits, NOW, lookback_days, OUTCOMES)
    assert values is not None
    return dict(zip(feature_names(OUTCOMES), values, strict=True))


def model(**weights: float) -> ReturnModel:
    """Standardised by nothing, so that the score is the intercept and a weighted sum; days are known from 0 to 30."""
    return ReturnModel(
        lookback_days=30.0,
        as_of=NOW.isoformat(),
        outcomes=OUTCOMES,
        features=tuple(
            Feature(
                name=name,
                low=0.0 if name == "days_since_last" else -10.0,
                high=30.0,
                mean=0.0,
                scale=1.0,
                weight=weights.get(name, 0.0),
            )
            for name in feature_names(OUTCOMES)
        ),
        intercept=1.0,
        users=998,
        returned=500,
    )


def test_features_of_a_known_history() -> None:
    got = named([ago(8, 3, "cart"), ago(5, 3), ago(2, 9, "cart", "purchase")])
    hour = 1 / 24
    assert got == pytest.approx(
        {
            "days_since_last": 2.0,
            "log_days_since_last": math.log(2 + hour),
            "log_visits": math.log(3),
            "log_visits_in_1_days": 0.0,
            "log_visits_in_3_days": math.log(2),
            "log_visits_in_7_days": math.log(3),
            "log_days_since_first": math.log(8 + hour),
            "log_mean_gap_days": math.log(3 + hour),
            "log_overdue": math.log(2 + hour) - math.log(3 + hour),
            "single_visit": 0.0,
            "log_pages_of_last": math.log(10),
            "log_mean_pages": math.log(6),
            "cart_share": 2 / 3,
            "cart_in_last": 1.0,
            "purchase_share": 1 / 3,
            "purchase_in_last": 1.0,
        }
    )


def test_visits_before_the_lookback_are_as_if_they_had_not_been() -> None:
    recent = [ago(20), ago(1, 5, "cart")]
    assert named([ago(400, 9, "purchase"), ago(31), *recent]) == named(recent)
    assert named([ago(400), ago(90, 4)])["days_since_last"] == 90.0  # the newest stays where there is no other
    assert named([ago(400), ago(90, 4)])["single_visit"] == 1.0


def test_a_single_visit_has_no_gap() -> None:
    got = named([ago(3)])
    assert (got["single_visit"], got["log_mean_gap_days"], got["log_overdue"]) == (1.0, 0.0, 0.0)


def test_nothing_is_known_of_nobody_and_of_the_future() -> None:
    assert features([], NOW, 30.0, ()) is None
    assert features([ago(2), ago(-1)], NOW, 30.0, ()) is None
    assert named([ago(2), ago(-0.5 / 24)])["days_since_last"] == 0.0  # clocks differ a little
    assert model().probability([], NOW) is None


def test_the_probability_is_the_logistic_function_of_the_score() -> None:
    made = model(days_since_last=-0.5, cart_in_last=2.0)
    assert made.probability([ago(4)], NOW) == pytest.approx(1 / (1 + math.exp(1.0)))
    assert made.probability([ago(4, 3, "cart")], NOW) == pytest.approx(1 / (1 + math.exp(-1.0)))


def test_features_are_held_within_the_training_users_range() -> None:
    made = model(days_since_last=-0.1)
    assert made.probability([ago(1000)], NOW) == made.probability([ago(30)], NOW) == pytest.approx(1 / (1 + math.e**2))


def test_no_more_certainty_than_the_users_allow() -> None:
    assert model(days_since_last=90.0).probability([ago(30)], NOW) == 1 - 1 / 1000
    assert model(days_since_last=-90.0).probability([ago(30)], NOW) == 1 / 1000


def test_visits_of_sessions_of_pages() -> None:
    pages = {"cart": ("/cart", "/basket"), "purchase": ("/thanks",)}
    got = visits_of([NOW, NOW], [("/", "/basket"), ("/thanks", "/", "/")], pages)
    assert got == [Visit(NOW, 2, frozenset({"cart"})), Visit(NOW, 3, frozenset({"purchase"}))]


def test_the_file_comes_back_equal(tmp_path: Path) -> None:
    made = model(log_visits=0.25)
    made.save(tmp_path / "returns.json")
    assert ReturnModel.load(tmp_path / "returns.json") == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": []}, "not those that this version computes"),
        ({"outcomes": ["cart"]}, "not those that this version computes"),
        ({"returned": 999}, "999 of 998"),
        ({"lookback_days": 0}, "lookback_days"),
        ({"horizon_days": 30}, "horizon_days"),
        ({"intercept": "NaN"}, "intercept"),
        ({"code": "x"}, "code"),
    ],
)
def test_a_file_that_is_no_model(change: dict[str, Any], message: str) -> None:
    document = {**model().model_dump(mode="json"), **change}
    with pytest.raises(ValidationError, match=message):
        ReturnModel.model_validate_json(json.dumps(document))


def test_a_range_upside_down() -> None:
    document = model().model_dump(mode="json")
    document["features"][0]["low"] = 31.0
    with pytest.raises(ValidationError, match="days_since_last: low is above high"):
        ReturnModel.model_validate_json(json.dumps(document))
