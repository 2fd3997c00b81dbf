"""Figures by hand, against libraries, and against copying samples instead of weighing them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score, roc_auc_score

from training.evaluation.metrics.bootstrap import CHUNK, groups_of, interval, resampled
from training.evaluation.metrics.figures import Figures, Order, Tail


def flags(text: str) -> NDArray[np.bool_]:
    return np.array([c == "x" for c in text])


def confusion(predicted: NDArray[np.bool_], happened: NDArray[np.bool_]) -> dict[str, float]:
    figures = Figures(len(predicted))
    figures.confusion("o", predicted, happened)
    return {name.removeprefix("o."): value for name, value in figures.point().items()}


def test_variance_is_the_populations() -> None:
    figures = Figures(4)
    figures.variance("hit", np.array([1.0, 1.0, 1.0, 0.0]))
    figures.variance("any", np.array([0.2, 0.4, 0.9, 0.5]))
    figures.variance("none", np.full(4, 0.4))
    point = figures.point()
    assert point["hit"] == pytest.approx(0.75 * 0.25)  # HR (1 - HR)
    assert point["any"] == pytest.approx(float(np.var([0.2, 0.4, 0.9, 0.5])))
    assert point["none"] == 0.0


def test_outcome_metrics_by_hand() -> None:
    counts = confusion(flags("xxxx......"), flags("xx..xxx..."))
    assert counts["accuracy"] == 5 / 10
    assert counts["precision"] == 2 / 4
    assert counts["recall"] == 2 / 5
    assert counts["f1"] == pytest.approx(2 * 0.5 * 0.4 / (0.5 + 0.4))


def test_a_ratio_without_a_denominator_is_zero() -> None:
    assert confusion(flags("....."), flags("x....")) == {"accuracy": 0.8, "recall": 0.0, "precision": 0.0, "f1": 0.0}
    assert confusion(flags("x...."), flags(".....")) == {"accuracy": 0.8, "recall": 0.0, "precision": 0.0, "f1": 0.0}
    assert confusion(flags(".."), flags("..")) == {"accuracy": 1.0, "recall": 0.0, "precision": 0.0, "f1": 0.0}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_laws_of_outcome_metrics(users: list[tuple[bool, bool]]) -> None:
    counts = confusion(np.array([p for p, _ in users]), np.array([h for _, h in users]))
    assert counts["accuracy"] == pytest.approx(np.mean([p == h for p, h in users]))
    precision, recall = counts["precision"], counts["recall"]
    if precision + recall:
        assert counts["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert counts["f1"] == 0.0


def order(scores: NDArray[np.float64], happened: NDArray[np.bool_]) -> tuple[float, float]:
    auc, precision = Order.of(scores, happened).under(np.ones((1, len(scores))))
    return float(auc[0]), float(precision[0])


def test_auc_and_average_precision_by_hand() -> None:
    # pairs (happened, did not): 0.9 > 0.2, 0.9 > 0.5, 0.5 > 0.2, 0.5 = 0.5; from 0.9 up 1 of 1, from 0.5 up 2 of 3
    assert order(np.array([0.9, 0.5, 0.2, 0.5]), flags("xx..")) == pytest.approx((3.5 / 4, (1 + 2 / 3) / 2))


def test_auc_needs_both_kinds_of_users() -> None:
    nobody, everybody = order(np.array([0.1, 0.7]), flags("..")), order(np.array([0.1, 0.7]), flags("xx"))
    assert np.isnan(nobody).all()
    assert np.isnan(everybody[0])
    assert everybody[1] == 1.0


@given(st.lists(st.tuples(st.integers(1, 19), st.booleans()), min_size=2).filter(lambda u: len({h for _, h in u}) == 2))
def test_order_agrees_with_scikit_learn(users: list[tuple[int, bool]]) -> None:
    p, happened = np.array([p / 20 for p, _ in users]), np.array([h for _, h in users])
    expected = roc_auc_score(happened, p), average_precision_score(happened, p)
    assert order(p, happened) == pytest.approx(expected)


def test_a_tail_counts_its_edge_in_part() -> None:
    values = np.array([0.5, 0.1, 0.9, 0.3])
    every = np.arange(4)
    (lowest,) = Tail.of(values, 0.25, highest=False, at=every).under(np.ones((1, 4)))
    (half_more,) = Tail.of(values, 0.375, highest=False, at=every).under(np.ones((1, 4)))
    (highest,) = Tail.of(values, 0.5, highest=True, at=every).under(np.ones((1, 4)))
    assert lowest == pytest.approx(0.1)
    assert half_more == pytest.approx((0.1 + 0.3 / 2) / 1.5)
    assert highest == pytest.approx((0.9 + 0.5) / 2)


def filled(values: NDArray[np.float64], p: NDArray[np.float64], happened: NDArray[np.bool_]) -> Figures:
    figures = Figures(len(values))
    figures.ratio("mean", values)
    figures.ratio("quotient", values, p)
    figures.variance("variance", values)
    figures.confusion("outcome", p > 0.5, happened)
    figures.order("order", p, happened)
    figures.tail("tail", values, 0.2, highest=False, at=np.arange(len(values)))
    return figures


def test_weights_stand_for_copies() -> None:
    generator = np.random.default_rng(3)
    values, p = generator.random(30), generator.integers(1, 10, 30) / 10
    happened = generator.random(30) < p
    weights = generator.integers(0, 4, (1, 30))
    copies = np.repeat(np.arange(30), weights[0])
    weighed = filled(values, p, happened).under(weights.astype(np.float64))
    copied = filled(values[copies], p[copies], happened[copies]).point()
    assert {name: float(value[0]) for name, value in weighed.items()} == pytest.approx(copied)


def test_resamples_draw_whole_users_as_often_as_there_are_users() -> None:
    groups = groups_of(["a", "b", "a", "c", "b", "a"])
    assert groups.tolist() == [0, 1, 0, 2, 1, 0]
    chunks = list(resampled(groups, CHUNK + 7, seed=2))
    assert [len(chunk) for chunk in chunks] == [CHUNK, 7]
    weights = np.concatenate(chunks)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    assert len(np.unique(weights, axis=0)) > 5
    again = np.concatenate(list(resampled(groups, CHUNK + 7, seed=2)))
    assert (weights == again).all()
    assert (weights != np.concatenate(list(resampled(groups, CHUNK + 7, seed=3)))).any()


def test_intervals_agree_with_scipys() -> None:
    values = np.random.default_rng(5).gamma(2.0, size=400)
    figures = Figures(400)
    figures.ratio("mean", values)
    low, high = figures.intervals(np.arange(400), 4000, seed=0)["mean"]
    theirs = bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    covered = 0
    for _ in range(200):
        values = (generator.random(150) < 0.3).astype(np.float64)
        figures = Figures(150)
        figures.ratio("share", values)
        low, high = figures.intervals(np.arange(150), 200, seed=0)["share"]
        covered += low <= 0.3 <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_a_figure_that_is_mostly_undefined_has_no_interval() -> None:
    figures = Figures(40)
    figures.order("order", np.linspace(0, 1, 40), np.arange(40) == 3)  # a third of the resamples has no positive
    figures.ratio("mean", np.ones(40))
    assert figures.intervals(np.arange(40), 300, seed=0) == {"mean": (1.0, 1.0)}
    assert interval(np.array([np.nan, *np.arange(99.0)])) is not None
    assert interval(np.array([])) is None
    assert figures.intervals(np.arange(40), 0, seed=0) == {}
