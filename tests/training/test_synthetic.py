from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from browsing.vocabulary import BOS, EOS
from training.synthetic import FIRST, visitors


def test_visitors_are_sessions_within_the_context() -> None:
    people = visitors(60, 300, seed=1, context=64)
    for person in people:
        assert len(person.ids) <= 64
        assert person.ids[0] == BOS
        assert person.ids[person.target - 1] == BOS
        assert BOS not in person.ids[person.target :]
        assert all(token in (BOS, EOS) or FIRST <= token < 60 for token in person.ids)
    assert sum(p.ids[-1] == EOS for p in people) > 290


def test_pages_are_drawn_afresh_for_everybody() -> None:
    people = visitors(1000, 2000, seed=0, context=256)
    counts = Counter(token for p in people for token in set(p.ids) if token >= FIRST)
    seen = np.array([counts[token] for token in range(FIRST, 1000)])
    # As many visitors per page as if every visitor drew pages at random: the variance of a Poisson count.
    assert seen.var() < 1.4 * seen.mean()


def test_visitors_repeat_themselves() -> None:
    again = []
    for person in visitors(1000, 500, seed=0, context=256):
        history, following = set(person.ids[: person.target]), [t for t in person.ids[person.target :] if t >= FIRST]
        again += [token in history for token in following] if person.target > 1 else []
    assert np.mean(again) > 0.7


def test_equal_seeds_equal_visitors() -> None:
    assert visitors(30, 20, seed=3, context=64) == visitors(30, 40, seed=3, context=64)[:20]
    assert visitors(30, 20, seed=3, context=64) != visitors(30, 20, seed=4, context=64)
    with pytest.raises(ValueError, match="two pages"):
        visitors(FIRST + 1, 1, seed=0, context=64)
