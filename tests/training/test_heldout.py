from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from training.dataset import Sample
from training.heldout import Held, newest_of_each

START = datetime(2026, 3, 2, tzinfo=UTC)


def sample(user: str, day: int) -> Sample:
    return Sample(user, (("/",),), (START,), (f"/{day}",), START + timedelta(days=day))


def test_a_user_with_many_samples_counts_once() -> None:
    held = Held([sample("a", 1), sample("b", 5), sample("a", 3), sample("a", 2)], np.array([0, 1, 2, 3]))
    newest = newest_of_each(held)
    assert [(s.user_id, s.next_session) for s in newest.samples] == [("b", ("/5",)), ("a", ("/3",))]
    assert newest.own.tolist() == [1, 2]
