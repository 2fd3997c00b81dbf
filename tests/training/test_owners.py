"""Users with several samples: summed, counted, and compared as what they are."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from browsing.vocabulary import Vocabulary
from training.data import Split
from training.dataset import Sample
from training.owners import summed_by_user, users_among, within_one_error
from training.settings import settings_of

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


def test_samples_are_summed_in_the_order_of_the_users_first() -> None:
    values = np.array([[1.0, 2.0], [10.0, 20.0], [3.0, 4.0], [100.0, 200.0], [5.0, 6.0]])
    owner = np.array([7, 2, 7, 0, 2])
    assert summed_by_user(values, owner).tolist() == [[4.0, 6.0], [15.0, 26.0], [100.0, 200.0]]
    assert summed_by_user(values[:, 0], owner).tolist() == [4.0, 15.0, 100.0]
    assert users_among(owner) == 3
    assert summed_by_user(values[:0], owner[:0]).shape == (0, 2)
    assert users_among(owner[:0]) == 0


@pytest.mark.parametrize("shape", [(50,), (50, 5)])
def test_with_one_sample_each_every_number_stays_as_it_is(shape: tuple[int, ...]) -> None:
    """Bit for bit: means and errors are those of the samples, whatever the users' numbers are."""
    generator = np.random.default_rng(0)
    values, owner = generator.normal(0, 1, shape), generator.permutation(50)
    summed = summed_by_user(values, owner)
    assert summed.tobytes() == values.tobytes()
    error = values.std(0, ddof=1) / np.sqrt(50)
    assert np.array_equal(within_one_error(summed), values.mean(0) <= error)


def test_copies_of_every_sample_do_not_shrink_the_error() -> None:
    """Users' sums and their error grow alike: what is within one error stays there, at any number of copies."""
    gain = np.random.default_rng(0).normal(0, 1, 30)
    gain = (gain - gain.mean()) / gain.std(ddof=1) * np.sqrt(30)  # mean 0, standard error 1
    for copies in (1, 2, 20):
        owner = np.repeat(np.arange(30), copies)
        assert within_one_error(summed_by_user(np.repeat(gain + 0.99, copies), owner))
        assert not within_one_error(summed_by_user(np.repeat(gain + 1.01, copies), owner))


def test_a_split_knows_whose_its_samples_are() -> None:
    people = [Sample(user, (("/a",),), (MONDAY,), ("/b",), MONDAY) for user in ("v", "u", "v", "w", "u")]
    split = Split.of(people, Vocabulary(["/a", "/b"]), settings_of("demo"))
    assert split.owner.tolist() == [0, 1, 0, 2, 1]
    assert Split.of([], Vocabulary(["/a"]), settings_of("demo")).owner.tolist() == []
