"""Counts that forget, against sums done the plain way."""

from __future__ import annotations

import math

import pytest

from service.monitoring.window import DecayingCounts


class Clock:
    """Moved by the test."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_a_half_life_old_weighs_half() -> None:
    clock = Clock()
    window = DecayingCounts(2, 60.0, clock)
    window.add([(0, 1.0)])
    clock.now += 60
    window.add([(1, 1.0)])
    assert window.means() == pytest.approx([1 / 3, 2 / 3])
    assert window.effective_size == pytest.approx(1.5**2 / 1.25)


def test_together_they_count_one_by_one() -> None:
    window = DecayingCounts(3, 60.0, Clock())
    for place in (0, 0, 1, 2):
        window.add([(place, 1.0)])
    assert window.means() == [0.5, 0.25, 0.25]
    assert window.effective_size == 4


def test_an_observation_may_be_in_several_bins() -> None:
    window = DecayingCounts(2, 60.0, Clock())
    window.add([(0, 0.25), (1, 0.75)])
    window.add([(0, 1.0)])
    assert window.means() == [0.625, 0.375]
    assert window.effective_size == 2


def test_silence_changes_nothing() -> None:
    clock = Clock()
    window = DecayingCounts(2, 60.0, clock)
    for place in (0, 1, 1):
        window.add([(place, 1.0)])
    clock.now += 1e6
    assert window.means() == pytest.approx([1 / 3, 2 / 3])
    assert window.effective_size == pytest.approx(3)
    window.add([(0, 1.0)])
    assert window.means() == [1, 0], "after 16,000 half-lives the old ones are nothing"
    assert window.effective_size == pytest.approx(1)


def test_before_the_first() -> None:
    window = DecayingCounts(2, 60.0, Clock())
    assert window.effective_size == 0
    with pytest.raises(ZeroDivisionError):
        window.means()


def test_weeks_of_steady_requests_equal_the_plain_sum() -> None:
    clock = Clock()
    half_life, step, count = 60.0, 1.0, 5_000  # 83 half-lives: the weights are scaled back more than once
    window = DecayingCounts(2, half_life, clock)
    for i in range(count):
        clock.now += step
        window.add([(int(i % 3 == 0), 1.0)])
    ages = [(count - 1 - i) * step for i in range(count)]
    weights = [0.5 ** (age / half_life) for age in ages]
    share = sum(w for i, w in enumerate(weights) if i % 3 == 0) / sum(weights)
    assert window.means() == pytest.approx([1 - share, share])
    assert window.effective_size == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    assert window.effective_size == pytest.approx(2 * half_life / (step * math.log(2)), rel=0.01)
