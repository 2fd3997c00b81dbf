from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from training.dataset import Sample
from training.heldout import Held, newest_cases, newest_of_each

START = datetime(2026, 3, 2, tzinfo=UTC)


def sample(user: str, day: int) -> Sample:
    return Sample(user, (("/",),), (START,), (f"/{day}",), START + timedelta(days=day))


def test_a_user_with_many_samples_counts_once() -> None:
    held = Held([sample("a", 1), sample("b", 5), sample("a", 3), sample("a", 2)], np.array([0, 1, 2, 3]))
    newest = newest_of_each(held)
    assert [(s.user_id, s.next_session) for s in newest.samples] == [("b", ("/5",)), ("a", ("/3",))]
    assert newest.own.tolist() == [1, 2]


def test_calibration_takes_every_users_newest_cases_first() -> None:
    samples = [sample("a", 1), sample("b", 5), sample("a", 3), sample("a", 2), sample("c", 9), sample("c", 8)]
    held = Held(samples, np.arange(6))
    for most, rows in ((2, [1, 2, 4]), (4, [1, 2, 4]), (5, [1, 2, 3, 4, 5]), (6, [0, 1, 2, 3, 4, 5])):
        taken = newest_cases(held, most)
        assert taken.own.tolist() == rows, "nobody is left out, and everybody counts alike"
        assert taken.samples == [samples[row] for row in rows]
    assert newest_cases(Held([], np.zeros(0, np.int64))).samples == []
