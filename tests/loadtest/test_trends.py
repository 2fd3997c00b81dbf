from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.process import Sample
from loadtest.trends import QUANTITIES, trend, trends

MEMORY, ANONYMOUS, DESCRIPTORS, THREADS, CONNECTIONS = QUANTITIES
TIMES: NDArray[np.float64] = np.arange(1_800, dtype=np.float64)


def noise(scale: float, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, scale, len(TIMES))


def test_a_constant_has_no_slope() -> None:
    found = trend(THREADS, TIMES, np.full(len(TIMES), 12.0))
    assert (found.slope_per_hour, found.interval, found.growth, found.flat) == (0.0, (0.0, 0.0), 0.0, True)


def test_a_line_has_its_slope_and_a_leak_is_not_flat() -> None:
    found = trend(MEMORY, TIMES, 500.0 + TIMES / 60)  # a mebibyte a minute
    assert found.slope_per_hour == pytest.approx(60.0)
    assert found.growth == pytest.approx(1_799 / 60)
    assert found.median == pytest.approx(515, abs=0.1)
    assert found.tolerance == pytest.approx(10.3, abs=0.1)
    assert not found.flat


def test_the_slope_is_the_median_over_all_pairs() -> None:
    # Theil-Sen by hand: slopes 1, 2, 3, 3, 4, 5 between (0,0) (1,1) (2,4) (3,9) -> median 3.
    found = trend(DESCRIPTORS, np.arange(4, dtype=np.float64), np.array([0.0, 1.0, 4.0, 9.0]))
    assert found.slope_per_hour == pytest.approx(3 * 3_600)


def test_outliers_do_not_move_it() -> None:
    values = 500.0 + noise(1.0)
    values[::50] += 300.0  # every fiftieth sample is taken in the middle of something large
    found = trend(MEMORY, TIMES, values)
    assert abs(found.growth) < 0.5
    assert found.flat
    assert abs(np.polyfit(TIMES, values, 1)[0] * 1_799) > abs(found.growth)


def test_a_leak_beneath_noise_is_found() -> None:
    found = trend(CONNECTIONS, TIMES, 20.0 + TIMES / 300 + noise(3.0))
    assert found.growth == pytest.approx(6.0, abs=1.0)
    assert found.interval[0] > 0
    assert not found.flat


def test_growth_that_the_interval_does_not_confirm_is_flat() -> None:
    found = trend(DESCRIPTORS, np.arange(24, dtype=np.float64), 40.0 + noise(20.0, seed=3)[:24])
    assert found.growth > found.tolerance
    assert found.interval[0] < 0
    assert found.flat


def test_growth_within_the_tolerance_is_flat_though_significant() -> None:
    found = trend(MEMORY, TIMES, 500.0 + 2.0 * TIMES / 1_800)
    assert found.interval[0] > 0
    assert found.growth == pytest.approx(2.0, rel=0.01)
    assert found.flat


def test_falling_is_flat() -> None:
    assert trend(MEMORY, TIMES, 500.0 - TIMES / 10).flat


def test_the_warm_up_is_left_out_and_a_short_watch_tells_nothing() -> None:
    samples = [Sample(float(i), 2**30 if i >= 20 else i * 2**20, 40, 9, 4, 2**29) for i in range(100)]
    found = trends(samples)
    assert found is not None
    assert [(own.name, own.samples, own.flat) for own in found] == [
        ("memory", 80, True),
        ("anonymous", 80, True),
        ("descriptors", 80, True),
        ("threads", 80, True),
        ("connections", 80, True),
    ]
    assert found[0].median == 1_024.0
    assert trends(samples[:14]) is None
    assert trends([]) is None
