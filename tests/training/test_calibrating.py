"""Fitting the calibration: known maps are found again, users count and not cases, intervals hold the truth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from browsing.calibration import Calibration
from training.calibrating import fit_calibration


def _drawn(true: NDArray[np.float64], seed: int = 0) -> NDArray[np.bool_]:
    happened: NDArray[np.bool_] = np.random.default_rng(seed + 1).random(len(true)) < true
    return happened


def _raw(n: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random(n)


def _bend(raw: NDArray[np.float64], slope: float, intercept: float) -> NDArray[np.float64]:
    bent: NDArray[np.float64] = 1 / (1 + np.exp(-(slope * np.log(raw / (1 - raw)) + intercept)))
    return bent


def test_a_line_through_the_logits_is_found_again() -> None:
    raw = _raw(20_000)
    fitted = fit_calibration(raw, _drawn(_bend(raw, 0.6, -0.8)))
    assert fitted.method == "platt"
    assert (fitted.slope, fitted.intercept) == pytest.approx((0.6, -0.8), abs=0.05)
    assert fitted.calibrated


def test_a_shift_of_the_level_keeps_the_slope() -> None:
    raw = _raw(400)
    fitted = fit_calibration(raw, _drawn(_bend(raw, 1.0, -1.0)))
    assert (fitted.method, fitted.slope) == ("platt", 1.0)
    assert fitted.intercept == pytest.approx(-1.0, abs=0.3)


def test_a_step_needs_isotonic_regression() -> None:
    raw = _raw(4_000)
    true = np.where(raw < 0.3, 0.05, np.where(raw < 0.6, 0.5, 0.55))
    fitted = fit_calibration(raw, _drawn(true))
    assert fitted.method == "isotonic"
    for value, expected in ((0.1, 0.05), (0.45, 0.5), (0.8, 0.55)):
        assert fitted.apply(value) == pytest.approx(expected, abs=0.06)


def test_it_helps_on_users_it_has_not_seen() -> None:
    def loss(p: NDArray[np.float64], happened: NDArray[np.bool_]) -> float:
        return float(-np.log(np.where(happened, p, 1 - p)).mean())

    raw, fresh = _raw(2_000, seed=1), _raw(5_000, seed=2)
    fitted = fit_calibration(raw, _drawn(_bend(raw, 1.8, -1.0), 1))
    happened = _drawn(_bend(fresh, 1.8, -1.0), 2)
    applied = np.array([fitted.apply(float(value)) for value in fresh])
    assert loss(applied, happened) < loss(fresh, happened) - 0.05
    assert applied.mean() == pytest.approx(happened.mean(), abs=0.02)


@pytest.mark.parametrize("positives", [0, 9, 391, 400])
def test_too_few_cases_are_passed_on_and_said_to_be(positives: int) -> None:
    happened = np.zeros(400, bool)
    happened[:positives] = True
    fitted = fit_calibration(_raw(400), happened)
    assert (fitted.method, fitted.calibrated, fitted.n, fitted.positives) == ("none", False, 400, positives)
    assert fitted.apply(0.37) == 0.37


@pytest.mark.parametrize("positives", [10, 19])
def test_few_cases_set_the_level_alone(positives: int) -> None:
    raw, happened = _raw(300), np.zeros(300, bool)
    happened[np.argsort(raw)[-positives:]] = True
    fitted = fit_calibration(raw, happened)
    assert (fitted.method, fitted.slope, fitted.calibrated) == ("platt", 1.0, True)
    mean = np.mean([1 / (1 + np.exp(-(np.log(r / (1 - r)) + fitted.intercept))) for r in raw])
    assert mean * 300 == pytest.approx(positives, abs=1e-3)


def test_raw_values_of_zero_and_one() -> None:
    raw = np.array([0.0, 1.0] * 100)
    fitted = fit_calibration(raw, np.array([False, True] * 100))
    assert (fitted.apply(0.0), fitted.apply(1.0)) == pytest.approx((1 / 202, 201 / 202))


def test_a_score_that_misleads_never_turns_the_ranking_around() -> None:
    raw = _raw(2_000)
    fitted = fit_calibration(raw, _drawn(1 - raw))
    values = [fitted.apply(x) for x in np.linspace(0, 1, 50)]
    assert values == sorted(values)


@given(st.integers(0, 50), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_applied_values_rise_and_keep_their_distance(seed: int, low: float, high: float) -> None:
    raw = _raw(120, seed)
    fitted = fit_calibration(raw, _drawn(raw**2, seed))
    low, high = sorted((low, high))
    edge = 1 / 122
    assert edge <= fitted.apply(low) <= fitted.apply(high) <= 1 - edge


def test_isotonic_is_scikit_learns() -> None:
    from sklearn.isotonic import IsotonicRegression

    raw = _raw(4_000)
    happened = _drawn(np.where(raw < 0.3, 0.05, 0.5))
    fitted = fit_calibration(raw, happened)
    assert fitted.method == "isotonic"
    points = np.linspace(-0.0, 1.0, 301)
    model = IsotonicRegression(out_of_bounds="clip").fit(raw, happened)
    expected = np.clip(model.predict(points), 1 / 4002, 4001 / 4002)
    np.testing.assert_allclose([fitted.apply(float(p)) for p in points], expected, atol=1e-12)


def test_the_fit_is_repeatable() -> None:
    raw = _raw(500)
    happened = _drawn(_bend(raw, 2.0, 0.5))
    assert fit_calibration(raw, happened) == fit_calibration(raw, happened)


def test_the_file_holds_numbers_and_nothing_else(tmp_path: Path) -> None:
    raw = _raw(3_000)
    calibration = Calibration(
        outcomes={
            "cart": fit_calibration(raw, _drawn(_bend(raw, 0.5, -1))),
            "purchase": fit_calibration(raw, _drawn(np.where(raw < 0.3, 0.05, 0.5))),
        }
    )
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert Calibration.load(path) == calibration
    assert set(json.loads(path.read_text())) == {"schema_version", "samples", "outcomes", "propensity"}
    for name in ("cart", "purchase"):
        assert Calibration.load(path).apply(name, 0.4) == (calibration.outcomes[name].apply(0.4), True)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="equal length"):
        fit_calibration(_raw(3), np.array([True]))
    with pytest.raises(ValueError, match="equal length"):
        fit_calibration(_raw(2), np.array([True, False]), ["u1"])
    with pytest.raises(ValueError, match="outside"):
        fit_calibration(np.array([0.5, 1.5]), np.array([True, False]))
    with pytest.raises(ValueError, match="outside"):
        fit_calibration(np.array([0.5, np.nan]), np.array([True, False]))


def test_what_one_user_does_often_is_not_many_users() -> None:
    """Twelve users with the outcome allow the level alone, and nine nothing, however many cases they bring."""
    raw, often = _raw(600), np.arange(600) % 60
    for with_outcome, method in ((9, "none"), (12, "platt")):
        fitted = fit_calibration(raw, often < with_outcome, [f"u{u}" for u in often])
        assert (fitted.method, fitted.slope) == (method, 1.0)
        assert (fitted.n, fitted.positives, fitted.users) == (600, 10 * with_outcome, 60)
    alone = fit_calibration(raw, often < 12)
    assert alone.users == 600
    assert alone.method != "none"


def test_cases_repeated_leave_the_map_and_its_bounds_alone() -> None:
    """Every case five times over tells nothing new: only the clipping, which counts cases, may know of it."""
    raw = np.repeat(_raw(500), 5)
    happened = np.repeat(_drawn(_bend(_raw(500), 0.6, -0.8)), 5)
    once = fit_calibration(raw[::5], happened[::5])
    five = fit_calibration(raw, happened, [f"u{i // 5}" for i in range(2500)])
    assert once.method == five.method == "platt"
    for p in (0.1, 0.5, 0.9):
        assert five.apply(p) == pytest.approx(once.apply(p), abs=1e-3)
        assert five.interval(p, (p, p)) == pytest.approx(once.interval(p, (p, p)), abs=1e-3)


def test_folds_keep_a_user_together() -> None:
    """Every user has one raw value and always or never the outcome: a map that knows the users looks perfect unless all
    that a user did is held out together."""
    users = np.repeat(np.arange(60), 40)
    raw = np.repeat(_raw(60), 40)
    happened = np.repeat(np.random.default_rng(5).random(60) < 0.5, 40)
    assert fit_calibration(raw, happened).method == "isotonic"
    assert fit_calibration(raw, happened, [str(u) for u in users]).method == "platt"


SHAPES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "platt": lambda raw: _bend(raw, 0.6, -0.8),
    "isotonic": lambda raw: np.where(raw < 0.3, 0.05, np.where(raw < 0.6, 0.3, 0.5)),
}


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_the_interval_holds_the_truth_as_often_as_it_says(method: str) -> None:
    shape, held = SHAPES[method], []
    for seed in range(25):
        raw = np.clip(np.random.default_rng(seed).beta(0.8, 2.5, 1500), 1e-4, 1 - 1e-4)
        fitted = fit_calibration(raw, _drawn(shape(raw), seed))
        if fitted.method != method:
            continue
        asked = np.sort(raw)[30::60]
        for p, true in zip(asked.tolist(), shape(asked).tolist(), strict=True):
            low, high = fitted.interval(p, (p, p))
            held.append(low <= true <= high)
    assert len(held) > 20 * 24
    assert 0.9 < np.mean(held) < 0.99


def test_a_flat_step_does_not_make_an_interval_a_point() -> None:
    raw = _raw(4_000)
    fitted = fit_calibration(raw, _drawn(np.where(raw < 0.5, 0.0, 0.5)))
    assert fitted.method == "isotonic"
    low, high = fitted.interval(0.2, (0.1, 0.3))  # nobody below a half ever had it
    assert low == 0.0
    assert fitted.apply(0.2) < high < 0.01
    low, high = fitted.interval(0.75, (0.7, 0.8))
    assert 0.02 < high - low < 0.15


@given(st.integers(0, 50), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25, derandomize=True, deadline=None)
def test_an_interval_holds_its_probability_and_grows_with_the_samplings(
    seed: int, first: float, second: float, third: float
) -> None:
    low, raw, high = sorted((first, second, third))
    for fitted in (
        fit_calibration(_raw(150, seed), _drawn(_raw(150, seed) ** 2, seed)),
        fit_calibration(_raw(150, seed), _drawn(np.where(_raw(150, seed) < 0.3, 0.02, 0.7), seed)),
    ):
        narrow, wide = fitted.interval(raw, (raw, raw)), fitted.interval(raw, (low, high))
        assert 0 <= wide[0] <= narrow[0] <= fitted.apply(raw) <= narrow[1] <= wide[1] <= 1
        assert fitted.apply(raw) - wide[0] >= fitted.apply(raw) - fitted.apply(low) - 1e-12


def _with_history(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Raw probabilities and histories' logits, and outcomes whose log-odds are half the one and 0.8 of the other."""
    generator = np.random.default_rng(seed)
    raw, evidence = generator.uniform(0.05, 0.6, n), generator.normal(-1.0, 1.0, n)
    true = 1 / (1 + np.exp(-(0.5 * np.log(raw / (1 - raw)) + 0.8 * evidence + 0.2)))
    return raw, evidence, true, generator.random(n) < true


def test_what_the_history_says_is_weighed() -> None:
    raw, evidence, true, happened = _with_history(6_000)
    fitted = fit_calibration(raw, happened, evidence=evidence)
    assert fitted.method == "platt"
    assert (fitted.slope, fitted.history, fitted.intercept) == pytest.approx((0.5, 0.8, 0.2), abs=0.12)
    p = np.array([fitted.apply(r, e) for r, e in zip(raw.tolist(), evidence.tolist(), strict=True)])
    assert np.abs(p - true).mean() < 0.02
    with pytest.raises(ValueError, match="nothing was said"):
        fitted.apply(0.3)


def test_a_history_that_says_nothing_is_left_out() -> None:
    raw, evidence, _, _ = _with_history(4_000)
    fitted = fit_calibration(raw, _drawn(raw), evidence=evidence)
    assert fitted.history == 0
    assert fitted.apply(0.3) == pytest.approx(fitted.apply(0.3, 2.0))


def test_the_interval_with_a_history_holds_the_truth() -> None:
    """In 100 refits, the 95 % interval of one visitor's probability, its paths taken as exact."""
    held = 0
    truth = 1 / (1 + math.exp(-(0.5 * math.log(0.2 / 0.8) + 0.8 * 0.5 + 0.2)))
    for seed in range(100):
        raw, evidence, _, happened = _with_history(800, seed)
        fitted = fit_calibration(raw, happened, evidence=evidence)
        low, high = fitted.interval(0.2, (0.2, 0.2), 0.5)
        held += low <= truth <= high
    assert 89 <= held <= 100
