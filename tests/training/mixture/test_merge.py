from __future__ import annotations

import numpy as np
import pytest
import torch

from training.mixture.evidence import Evidence
from training.mixture.merge import average, costs_nothing, likeliest, likeness
from training.owners import Floats

EVIDENCE: Floats = np.arange(6, dtype=np.float64).reshape(2, 3)


def test_the_pair_that_explains_each_other_comes_first() -> None:
    nats = np.array([[10.0, 10.1, 30.0], [10.2, 10.0, 30.0], [30.0, 30.0, 10.0]])
    own = np.array([0, 1, 2])
    alike = likeness(nats, own)
    assert alike[0, 1] == alike[1, 0] == pytest.approx(-(0.1 + 0.2) / 2)
    assert alike[0, 2] == pytest.approx(-20.0)
    first, *rest = likeliest(nats, own)
    assert (first.first, first.second) == (0, 1)
    assert len(rest) == 2


def test_clusters_without_users_are_no_pair() -> None:
    assert likeliest(np.ones((2, 3)), np.array([0, 0]))[0].second in (1, 2)
    assert likeliest(np.ones((0, 2)), np.zeros(0, np.int64)) == []


def test_the_average_weighs_by_share() -> None:
    models = [{"a": torch.tensor([0.0, 4.0])}, {"a": torch.tensor([4.0, 0.0])}]
    assert average(models, [0.3, 0.1])["a"].tolist() == pytest.approx([1.0, 3.0])


def test_merging_must_not_cost_more_than_its_standard_error() -> None:
    generator = np.random.default_rng(0)
    before = generator.normal(3, 1, 500)
    noise = generator.normal(0, 0.1, 500)
    noise -= noise.mean()
    each = np.arange(500)
    assert costs_nothing(before, before + noise, each)
    assert costs_nothing(before, before - 0.1, each)
    assert not costs_nothing(before, before + noise + 0.02, each)
    assert not costs_nothing(before[:1], before[:1], each[:1])  # one user shows nothing


def test_a_users_samples_count_as_one_user() -> None:
    """Ten users' losses change by -1, 0, 0, 0, 0, 0, 0, 0, 1, 2: 0.2 on average, the standard error 0.249."""
    change, owner = np.array([-1.0, 0, 0, 0, 0, 0, 0, 0, 1, 2]), np.arange(10)
    assert costs_nothing(np.zeros(10), change, owner)
    # As samples of 200 users the same mean would have an error of 0.053.
    many, whose = np.repeat(change, 20), np.repeat(owner, 20)
    assert costs_nothing(np.zeros(200), many, whose)
    assert not costs_nothing(np.zeros(200), many, np.arange(200))
    assert not costs_nothing(np.zeros(20), np.zeros(20), np.zeros(20, np.int64))  # one user with 20 samples


def test_a_merged_column_takes_its_place() -> None:
    evidence = Evidence(EVIDENCE, EVIDENCE)
    merged = evidence.merged([0, 2], 1, Evidence(np.array([[9.0], [8.0]]), np.array([[7.0], [6.0]])))
    assert merged.history.tolist() == [[0.0, 9.0], [3.0, 8.0]]
    assert merged.target.tolist() == [[0.0, 7.0], [3.0, 6.0]]
