"""Pauses before new attempts and new lives."""

from __future__ import annotations

import random

from service.resilience.backoff import Backoff, Restarts


def made() -> Restarts:
    return Restarts(Backoff(random.Random(1), first=1.0, most=8.0), long=10.0)


def test_the_first_death_costs_no_pause_and_the_next_ones_growing_pauses() -> None:
    restarts = made()
    assert restarts.died(3.0) == 0.0
    for longest in (1, 2, 4, 8, 8):
        assert longest / 2 <= restarts.died(3.0) <= longest


def test_a_long_life_makes_the_next_death_the_first_one() -> None:
    restarts = made()
    for _ in range(5):
        restarts.died(3.0)
    assert restarts.died(10.0) == 0.0
    assert 0.5 <= restarts.died(9.9) <= 1.0, "from the beginning"


def test_what_cannot_be_started_is_tried_again_with_growing_pauses() -> None:
    restarts = made()
    assert restarts.died(3.0) == 0.0
    for longest in (1, 2, 4):
        assert longest / 2 <= restarts.failed() <= longest
    assert restarts.died(3.0) >= 4.0, "it came up, and was gone again"
