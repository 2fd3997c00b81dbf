"""The features of a history by hand, and trees that find what decides."""

from __future__ import annotations

import sys
from datetime import timedelta

import numpy as np
import pytest

from browsing.vocabulary import Vocabulary
from tests.training.baselines.people import MONDAY, visitor
from training.baselines.boosting import Boosting
from training.baselines.features import Features
from training.baselines.port import BaselineError
from training.dataset import Sample

PAGES = Vocabulary(["/cart", "/a", "/b", "/c"])
CART = {"cart": ("/cart",)}


def test_the_features_by_hand() -> None:
    features = Features(["/a", "/cart"], CART)
    sessions = (("/a", "/b", "/a"), ("/cart",), ("/a", "/c"))
    times = (MONDAY, MONDAY + timedelta(days=1), MONDAY + timedelta(days=3, minutes=30))
    (row,) = features.table([(sessions, times)])
    values = dict(zip(features.names, row.tolist(), strict=True))
    assert values == pytest.approx(
        {
            "sessions": 3,
            "views": 6,
            "distinct pages": 4,
            "mean length": 2,
            "longest": 3,
            "last length": 2,
            "last distinct": 2,
            "length before last": 1,
            "last to mean length": 1,
            "seen before in last": 1 / 2,
            "days known": 3 + 1 / 48,
            "mean days between": 1.5 + 1 / 96,
            "last hour": 9.5,
            "last weekday": 3,
            "pause 1": 48.5,
            "pause 2": 24,
            "pause 3": float("nan"),
            "cart: sessions with": 1,
            "cart: rate": 1 / 3,
            "cart: sessions since": 1,
            "cart: in last": 0,
            "cart: in first half rate": 0,
            "cart: views": 1,
            "views of /a": 3,
            "views of /cart": 1,
            "views of /a in last": 1,
            "views of /cart in last": 0,
        },
        nan_ok=True,
    )


def test_an_empty_history_has_features_too() -> None:
    features = Features(["/a"], CART)
    (row,) = features.table([((), ())])
    assert len(row) == len(features.names)
    assert row[:3].tolist() == [0, 0, 0]


def people(n: int, seed: int, rate: float = 0.9) -> list[Sample]:
    """Whoever ends the history with /b fills the cart next, at `rate`; the others at one tenth."""
    generator = np.random.default_rng(seed)
    samples = []
    for user in range(n):
        keen = bool(generator.integers(2))
        history = [["/a", "/c"], ["/b"] if keen else ["/c", "/a"]]
        filled = generator.random() < (rate if keen else 0.1)
        samples.append(visitor(f"{seed}-{user}", history, ["/a", "/cart"] if filled else ["/a"]))
    return samples


def test_it_finds_what_decides() -> None:
    boosting = Boosting()
    boosting.fit(people(800, 0), people(200, 1), PAGES, CART, 0)
    test = people(400, 2)
    keen = np.array(["/b" in sample.history[-1] for sample in test])
    chances = np.array([forecast.outcomes["cart"].probability for forecast in boosting.forecast(test)])
    assert chances[keen].mean() == pytest.approx(0.9, abs=0.05)
    assert chances[~keen].mean() == pytest.approx(0.1, abs=0.05)
    # Pages are those of the last session again.
    assert boosting.forecast(test[:1])[0].next_session == test[0].history[-1]


def test_a_rare_outcome_keeps_its_base_rate() -> None:
    train = [visitor(str(u), [["/a"]], ["/cart" if u < 9 else "/b"]) for u in range(300)]
    boosting = Boosting()
    boosting.fit(train, train[:50], PAGES, CART, 0)
    assert boosting.forecast(train[:1])[0].outcomes["cart"].probability == pytest.approx(0.03)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(BaselineError, match=r"pip install 'hetlm\[baselines\]'"):
        Boosting().fit(people(20, 0), people(20, 1), PAGES, CART, 0)
