"""Behaviours of hand-made visitors, counted by hand."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

from tests.training.datasets import MONDAY
from training.behaviour import WORDS, Session, Visitor, behaviours, contrast, repeated, visitors
from training.dataset import Sample

OUTCOMES = {"cart": ("/cart",)}


def person(*sessions: Session) -> Visitor:
    return Visitor("u", sessions, sessions[-1:])


def test_every_behaviour_has_short_words() -> None:
    assert set(behaviours(person(("/",)), OUTCOMES)) == set(WORDS)
    assert all(len(words) <= 25 for both in WORDS.values() for words in both)


def test_counts_by_hand() -> None:
    found = behaviours(person(("/bags", "/bags/a", "/bags/b", "/bags"), ("/bags", "/shoes", "/cart")), OUTCOMES)
    # Steps: into the folder, beside, out of it, across, to the cart.
    assert found["length"] == 3.5
    assert found["returns"] == 1.0
    assert found["repeats"] == pytest.approx(1 / 3)
    assert found["back"] == pytest.approx(1 / 5)
    assert found["compares"] == pytest.approx(1 / 5)
    assert found["down"] == pytest.approx(1 / 5)
    assert found["across"] == pytest.approx(2 / 5)
    assert found["sessions"] == 2
    assert found["cart"] == 0.5
    assert math.isnan(found["purchase"])
    assert math.isnan(found["similar"])


def test_a_site_without_outcomes_is_no_shop() -> None:
    found = behaviours(person(("/news/a", "/news/b")), {})
    assert found["similar"] == 1.0
    assert math.isnan(found["compares"])


def test_one_page_visited_once_gives_no_occasion() -> None:
    found = behaviours(person(("/",)), OUTCOMES)
    nothing = ("returns", "repeats", "back", "compares", "down", "across")
    assert all(math.isnan(found[name]) for name in nothing)
    assert math.isnan(repeated(person(("/",))))


def test_a_session_in_several_samples_counts_once() -> None:
    days = [MONDAY + timedelta(days=d) for d in range(3)]
    a, b, c = ("/a",), ("/b",), ("/c",)
    samples = [Sample("u", (a,), (days[0],), b, days[1]), Sample("u", (a, b), (days[0], days[1]), c, days[2])]
    [[visitor]] = visitors(samples, np.array([0, 0]), 1)
    assert visitor.sessions == (a, b, c)
    assert visitor.targets == (b, c)


def test_a_user_whose_samples_fall_apart_is_in_both_clusters() -> None:
    days = [MONDAY + timedelta(days=d) for d in range(2)]
    samples = [Sample("u", (("/a",),), days[:1], ("/b",), days[1]) for _ in range(2)]  # type: ignore[arg-type]
    groups = visitors(samples, np.array([0, 2]), 3)
    assert [len(group) for group in groups] == [1, 0, 1]


def test_contrast_is_cohens_d_and_ignores_noise() -> None:
    low, high = np.array([0.0, 1.0] * 50), np.array([1.0, 2.0] * 50)
    assert contrast(high, low) == pytest.approx(1 / np.std(low, ddof=1))
    assert contrast(low, high) == -contrast(high, low)
    noisy = np.random.default_rng(0).normal(size=(2, 30))
    assert contrast(noisy[0], noisy[1]) == 0
    assert contrast(np.array([1.0]), low) == 0
    assert contrast(np.array([np.nan, 1.0, 1.0]), np.array([0.0, 0.0, np.nan])) == 10.0
    assert contrast(np.ones(5), np.ones(5)) == 0
