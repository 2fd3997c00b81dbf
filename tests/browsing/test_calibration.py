"""The map from raw to calibrated probabilities: what may be in its file, and Wilson's interval."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from browsing.calibration import Calibration, OutcomeCalibration, wilson


def test_it_is_plain_arithmetic(tmp_path: Path) -> None:
    line = OutcomeCalibration(method="platt", slope=0.5, intercept=-1.0, n=98, positives=20, calibrated=True)
    steps = OutcomeCalibration(method="isotonic", x=(0.2, 0.6), y=(0.1, 0.5), n=98, positives=20, calibrated=True)
    calibration = Calibration(outcomes={"cart": line, "purchase": steps})
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert Calibration.load(path) == calibration
    assert set(json.loads(path.read_text())) == {"schema_version", "samples", "outcomes", "propensity"}
    for raw in (0.1, 0.4, 0.9):
        logit = 0.5 * np.log(raw / (1 - raw)) - 1.0
        assert calibration.apply("cart", raw)[0] == pytest.approx(1 / (1 + np.exp(-logit)))
        assert calibration.apply("purchase", raw)[0] == pytest.approx(float(np.interp(raw, [0.2, 0.6], [0.1, 0.5])))
        assert calibration.apply("cart", raw)[1]
    assert calibration.apply("cart", 0.0)[0] == 0.01  # 98 cases cannot show more certainty
    assert calibration.covers("cart")
    assert not calibration.covers("return")


def test_an_outcome_that_was_not_fitted_stays_raw() -> None:
    assert Calibration().apply("cart", 0.25) == (0.25, False)
    assert Calibration(outcomes={"cart": OutcomeCalibration(n=30, positives=3)}).apply("cart", 0.25) == (0.25, False)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"method": "isotonic", "calibrated": True, "n": 50}, "without points"),
        ({"method": "isotonic", "x": [0.1, 0.2], "y": [0.5], "calibrated": True}, "2 x for 1 y"),
        ({"method": "isotonic", "x": [0.2, 0.1], "y": [0.5, 0.6], "calibrated": True}, "x must rise"),
        ({"method": "isotonic", "x": [0.1, 0.2], "y": [0.6, 0.5], "calibrated": True}, "y must rise"),
        ({"method": "isotonic", "x": [0.1, 1.2], "y": [0.6, 0.7], "calibrated": True}, "x must rise"),
        ({"method": "platt", "slope": -1.0, "calibrated": True}, "slope"),
        ({"method": "platt", "slope": float("nan"), "calibrated": True}, "slope"),
        ({"method": "platt"}, "calibrated is False"),
        ({"method": "none", "calibrated": True}, "calibrated is True"),
        ({"method": "none", "n": 3, "positives": 4}, "4 positives"),
        ({"method": "isotonic", "x": [0.1], "y": [0.5], "low": [0.4], "calibrated": True}, "1 low and 0 high"),
        (
            {"method": "isotonic", "x": [0.1], "y": [0.5], "low": [0.4, 0.5], "high": [0.6, 0.7], "calibrated": True},
            "2 low and 2 high for 1 x",
        ),
        ({"method": "beta"}, "method"),
        ({"pickle": "x"}, "pickle"),
    ],
)
def test_a_file_that_is_not_a_calibration(document: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        OutcomeCalibration.model_validate(document)


def test_a_raw_probability_keeps_its_interval() -> None:
    assert OutcomeCalibration(n=30, positives=3).interval(0.3, (0.2, 0.5)) == (0.2, 0.5)
    assert Calibration().interval("cart", 0.3, (0.2, 0.5)) == (0.2, 0.5)


def test_a_file_from_before_there_were_bounds_is_read() -> None:
    old = {"method": "platt", "slope": 0.5, "intercept": 0.1, "n": 50, "positives": 25, "calibrated": True}
    calibration = Calibration.model_validate({"schema_version": 1, "outcomes": {"cart": old}})
    assert calibration.samples == 0
    low, high = calibration.interval("cart", 0.3, (0.2, 0.5))
    apply = calibration.outcomes["cart"].apply
    assert (low, high) == pytest.approx((apply(0.2), apply(0.5)))
    step = {"method": "isotonic", "x": [0.1, 0.9], "y": [0.2, 0.6], "n": 50, "positives": 25, "calibrated": True}
    assert OutcomeCalibration.model_validate(step).interval(0.5, (0.5, 0.5)) == pytest.approx((0.4, 0.4))


def test_wilsons_interval() -> None:
    low, high = wilson(0.1, 100)  # Newcombe (1998), method 3: 10 of 100
    assert low == pytest.approx(0.0552, abs=1e-4)
    assert high == pytest.approx(0.1744, abs=1e-4)
    assert wilson(0.0, 0) == (0.0, 1.0)
    for share in np.linspace(0, 1, 7):
        low, high = wilson(float(share), 12)
        assert 0 <= low <= share <= high <= 1
