"""The quality of probabilities, by hand and against libraries; calibration errors against their own null."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from browsing.calibration import Calibration, OutcomeCalibration
from browsing.forecast import Forecast, OutcomeForecast
from training.evaluation.metrics.probabilities import (
    BINS,
    Binned,
    Probabilities,
    buckets,
    calibration_error,
    null_calibration_error,
    reliability,
    squared_errors,
    surprises,
)


def test_scores_by_hand() -> None:
    p, happened = np.array([0.9, 0.5, 0.2, 0.5]), np.array([True, True, False, False])
    assert squared_errors(p, happened).tolist() == pytest.approx([0.01, 0.25, 0.04, 0.25])
    assert surprises(p, happened).tolist() == pytest.approx([-math.log(x) for x in (0.9, 0.5, 0.8, 0.5)])


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    assert surprises(np.array([0.0]), np.array([True]))[0] == pytest.approx(-math.log(1e-9))
    assert surprises(np.array([0.0, 1.0]), np.array([False, True])).max() == pytest.approx(0.0, abs=1e-8)


@given(st.lists(st.tuples(st.integers(1, 19), st.booleans()), min_size=2).filter(lambda u: len({h for _, h in u}) == 2))
def test_scores_agree_with_scikit_learn(users: list[tuple[int, bool]]) -> None:
    p, happened = np.array([p / 20 for p, _ in users]), np.array([h for _, h in users])
    assert surprises(p, happened).mean() == pytest.approx(sklearn_log_loss(happened, p))
    assert squared_errors(p, happened).mean() == pytest.approx(brier_score_loss(happened, p))


def test_bins_have_equal_mass_and_keep_equals_together() -> None:
    spread = Binned.of(np.random.default_rng(0).permutation(100) / 100, 10)
    assert np.diff(np.append(spread.starts, 100)).tolist() == [10] * 10
    ties = Binned.of(np.array([0.1] * 7 + [0.2] * 3), 5)
    assert ties.starts.tolist() == [0, 7]
    assert Binned.of(np.full(4, 0.5), 15).starts.tolist() == [0]


@given(st.permutations(list(range(12))))
def test_bins_do_not_depend_on_the_order_of_users(places: list[int]) -> None:
    p, happened = np.array([0.1, 0.2, 0.3] * 4), np.array([True, False, False, True, True, False] * 2)
    shuffled = np.array(places)
    assert calibration_error(p[shuffled], happened[shuffled]) == pytest.approx(calibration_error(p, happened))


def test_calibration_error_by_hand() -> None:
    # Two groups of equals: 0.1 of which 2 of 10 convert, 0.6 of which 3 of 5 do.
    p, happened = np.array([0.1] * 10 + [0.6] * 5), np.array([True] * 2 + [False] * 8 + [True] * 3 + [False] * 2)
    assert calibration_error(p, happened) == pytest.approx(10 / 15 * 0.1 + 5 / 15 * 0.0)
    low, high = reliability(p, happened)
    assert (low.n, low.happened, low.lower, low.upper) == (10, 2, 0.1, 0.1)
    assert (low.predicted, low.observed) == pytest.approx((0.1, 0.2))
    assert low.interval == pytest.approx((0.0567, 0.5098), abs=1e-4)  # Wilson, 2 of 10
    assert (high.n, high.observed) == (5, 0.6)


def test_buckets_are_deciles_the_likeliest_first() -> None:
    generator = np.random.default_rng(1)
    p = generator.random(1000)
    happened = generator.random(1000) < p
    table = buckets(p, happened)
    assert [bucket.n for bucket in table] == [100] * 10
    assert sum(bucket.happened for bucket in table) == happened.sum()
    assert [bucket.predicted for bucket in table] == sorted((b.predicted for b in table), reverse=True)
    assert all(above.lower >= below.upper for above, below in pairwise(table))
    assert len(reliability(p, happened)) == BINS


def test_the_null_is_what_a_perfect_forecaster_scores() -> None:
    """Of 200 worlds drawn from the probabilities, about one in twenty has a higher error than the null quantile."""
    generator = np.random.default_rng(7)
    p = generator.beta(1, 5, 600)
    null = null_calibration_error(p, seed=0)
    errors = [calibration_error(p, generator.random(600) < p) for _ in range(200)]
    assert 0.01 <= np.mean([error > null for error in errors]) <= 0.1
    assert calibration_error(p, generator.random(600) < np.sqrt(p)) > 3 * null  # a forecaster far off
    assert null_calibration_error(p, seed=0) == null
    assert null_calibration_error(np.repeat(p, 9), seed=0) < null / 2  # with more users the bar is lower


def forecast(**outcomes: float) -> Forecast:
    return Forecast((), (), {name: OutcomeForecast(p, (0.0, 1.0)) for name, p in outcomes.items()}, 0.0)


def test_the_score_of_several_outcomes_is_the_highest_and_calibrated_only_together() -> None:
    answers = [forecast(cart=0.2, purchase=0.1), forecast(cart=0.3, purchase=0.6)]
    shift = OutcomeCalibration(method="platt", intercept=-1.0, n=1000, positives=100, calibrated=True)
    half = Probabilities.of(answers, Calibration(outcomes={"cart": shift}))
    assert list(half.calibrated) == ["cart"]
    scores, kind = half.score(("cart", "purchase"))
    assert (scores.tolist(), kind) == ([0.2, 0.6], "raw")
    scores, kind = half.score(("cart",))
    assert kind == "calibrated"
    assert scores.tolist() == pytest.approx([shift.apply(0.2), shift.apply(0.3)])
    both = Probabilities.of(answers, Calibration(outcomes={"cart": shift, "purchase": shift}))
    scores, kind = both.score(("cart", "purchase"))
    assert kind == "calibrated"
    assert scores.tolist() == pytest.approx([shift.apply(0.2), shift.apply(0.6)])


def test_an_outcome_with_too_few_cases_has_no_calibrated_probability() -> None:
    own = Probabilities.of([forecast(cart=0.2)], Calibration(outcomes={"cart": OutcomeCalibration(n=50, positives=2)}))
    assert own.calibrated == {}
    assert Probabilities.of([], None).raw == {}
