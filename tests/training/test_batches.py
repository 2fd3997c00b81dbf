"""Which samples hold everything once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from tests import tiny
from training.batches import cover, examples
from training.dataset import Sample

WORDS = tiny.vocabulary()
START = datetime(2026, 1, 1, tzinfo=UTC)


def nested(user: str, lengths: list[int], samples: int) -> list[Sample]:
    """The newest `samples` sessions of a user, each with all before it; a session of n pages is one page n times."""
    sessions = [tuple(tiny.SIX_PAGES[i % 6] for _ in range(n)) for i, n in enumerate(lengths)]
    times = [START + timedelta(days=day) for day in range(len(lengths))]
    made = [Sample(user, tuple(sessions[:i]), tuple(times[:i]), sessions[i], times[i]) for i in range(1, len(sessions))]
    return made[-samples:]


def covering(samples: list[Sample], context: int) -> list[int]:
    items = examples(samples, WORDS, context, 4)
    rows = cover(samples, items)
    assert rows.dtype == np.int64
    return [int(row) for row in rows]


def test_one_sample_per_user_is_all_of_them() -> None:
    samples = [nested(f"u{i}", [2, 3, 1], 1)[0] for i in range(4)]
    assert covering(samples, 64) == [0, 1, 2, 3]


def test_the_newest_sample_holds_the_others() -> None:
    samples = nested("a", [2, 3, 1, 2], 3) + nested("b", [1, 1, 1], 2)
    assert covering(samples, 64) == [2, 4]
    assert covering(samples[::-1], 64) == [0, 2], "in whatever order they come"


def test_a_cut_history_needs_an_older_sample() -> None:
    """Each session takes 2 + 2 tokens; the prompt has room for [BOS] and two sessions of history."""
    samples = nested("a", [2] * 7, 6)
    rows = covering(samples, 13)
    assert rows == [2, 5]
    held = {i for row in rows for i in range(row + 2 - 3, row + 2)}
    assert held == set(range(1, 7)), "session 0 is nobody's target, and lies in no history that is kept"


def test_nobody_is_nothing() -> None:
    assert covering([], 64) == []
