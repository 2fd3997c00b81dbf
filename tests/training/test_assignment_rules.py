from __future__ import annotations

import numpy as np
import pytest

from training.assignment_rules import Labels, best_predictors, losses_by_rule


def test_each_rule_by_hand() -> None:
    train = np.array([[1.0, 5.0], [1.0, 5.0], [5.0, 1.0]])
    select = np.array([[2.0, 6.0], [6.0, 2.0]])
    tokens = np.array([2, 2])
    right = Labels(np.array([7, 7, 3]), np.array([7, 3]))  # a rule's own names do not matter
    wrong = Labels(np.array([0, 0, 1]), np.array([1, 0]))
    losses = losses_by_rule(
        train, select, tokens, np.array([0, 0]), np.array([0.75, 0.25]), {"right": right, "wrong": wrong}
    )
    assert losses == pytest.approx(
        {
            "random": (0.75 * 2 + 0.25 * 6 + 0.75 * 6 + 0.25 * 2) / 4,
            "selector": (2 + 6) / 4,
            "oracle": 1.0,
            "right": 1.0,
            "wrong": 3.0,
        }
    )


def test_a_group_gets_the_predictor_that_explains_it_best() -> None:
    assert best_predictors(np.array([[1.0, 2.0], [9.0, 3.0], [1.0, 2.0]]), np.array([4, 4, 5])) == {4: 1, 5: 0}


def test_a_group_that_training_never_saw_goes_to_the_largest_cluster() -> None:
    losses = losses_by_rule(
        np.array([[1.0, 2.0]]),
        np.array([[3.0, 4.0]]),
        np.array([1]),
        np.array([1]),
        np.array([0.4, 0.6]),
        {"new": Labels(np.array([0]), np.array([9]))},
    )
    assert losses["new"] == 4.0
