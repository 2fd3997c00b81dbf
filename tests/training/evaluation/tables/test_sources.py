"""What a cell shows: a figure, its interval or its spread over seeds, and whether it is the best."""

from __future__ import annotations

import pytest

from tests.training.evaluation.documents import generation, outcome, row
from training.evaluation.tables.grid import Cell
from training.evaluation.tables.sources import Column, Seen, Source, cells

IOU = Column("IoU", "pages.iou", "higher")


def source(*values: float, label: str = "hetlm", ranked: bool = True) -> Source:
    return Source(label, tuple(Seen(row(generation({"iou": value}))) for value in values), ranked=ranked)


def test_one_seed_shows_its_interval() -> None:
    one = Source("hetlm", (Seen(row(generation(intervals={"pages.iou": (0.25, 0.35)}))),))
    assert cells(IOU, [one]) == [Cell("0.300", "[0.250, 0.350]")]
    assert cells(IOU, [source(0.3)]) == [Cell("0.300")]


def test_several_seeds_show_mean_and_standard_deviation() -> None:
    assert cells(IOU, [source(0.2, 0.3, 0.4)]) == [Cell("0.300", "± 0.100")]


def test_the_best_is_marked_and_whatever_prints_alike() -> None:
    shown = cells(IOU, [source(0.30001), source(0.29999), source(0.2), source(0.9, ranked=False)])
    assert [cell.best for cell in shown] == [True, True, False, False]
    lower = cells(Column("IoU-var", "pages.iou", "lower"), [source(0.3), source(0.2)])
    assert [cell.best for cell in lower] == [False, True]
    neither = cells(Column("IoU", "pages.iou"), [source(0.3), source(0.2)])
    assert not any(cell.best for cell in neither)


def test_alone_nothing_is_best_and_among_equals_neither() -> None:
    assert not any(cell.best for cell in cells(IOU, [source(0.3), source(0.30001)]))
    assert not cells(IOU, [source(0.3), source(0.2, ranked=False)])[0].best


def test_small_figures_have_a_digit_more_in_the_whole_column() -> None:
    assert [cell.text for cell in cells(IOU, [source(0.0312), source(0.0021)])] == ["0.0312", "0.0021"]
    assert [cell.text for cell in cells(IOU, [source(0.1312), source(0.0021)])] == ["0.131", "0.002"]
    assert cells(Column("", "pages.iou", digits=2, scale=100), [source(0.0312)]) == [Cell("3.12")]


def test_what_is_not_there_is_a_dash() -> None:
    missing = Source("x", (Seen(row(nats=None)),), ranked=True)
    there = Source("y", (Seen(row(nats=2.0)),), ranked=True)
    some = Source("z", (Seen(row(nats=None)), Seen(row(nats=1.0))), ranked=True)
    shown = cells(Column("Nats", "loss.nats_per_page", "lower"), [missing, there, some])
    assert [cell.text for cell in shown] == ["–", "2.000", "–"]
    assert cells(Column("F1", "outcomes.cart.f1"), [there]) == [Cell("–")]
    assert cells(Column("BLEU", "text.bleu"), [there]) == [Cell("–")]
    assert cells(Column("F1", "decisions.cart.metrics.f1"), [there]) == [Cell("–")]


def test_a_ratio_without_a_denominator_is_marked() -> None:
    own = generation()
    nothing = own.model_copy(update={"outcomes": {"cart": outcome(0.0, predicted=0, happened=2)}})
    column = Column("Prec", "outcomes.cart.precision", divisors=("outcomes.cart.predicted",))
    assert cells(column, [Source("x", (Seen(row(nothing)),))]) == [Cell("0.0000*")]
    recall = Column("Rec", "outcomes.cart.recall", divisors=("outcomes.cart.happened",))
    assert cells(recall, [Source("x", (Seen(row(nothing)),))]) == [Cell("0.0000")]


def test_another_decode_changes_what_it_touches_and_nothing_else() -> None:
    greedy = generation({"iou": 0.1}, intervals={"pages.iou": (0.05, 0.15)})
    both = row(generation({"iou": 0.3}), nats=2.5, others={"greedy": greedy}, log_losses={"cart": 0.6})
    as_is, other = Seen(both), Seen(both, "greedy")
    assert (as_is.value("pages.iou"), other.value("pages.iou")) == (0.3, 0.1)
    assert other.interval("pages.iou") == (0.05, 0.15)
    assert other.value("loss.nats_per_page") == 2.5
    assert other.value("probabilities.cart.raw.log_loss") == 0.6
    assert Seen(both, "consensus").value("pages.iou") == 0.3  # what the row itself is of


def test_metrics_are_means_over_seeds_of_what_all_have() -> None:
    with_cart = row(generation({"iou": 0.5}, outcomes={"cart": 0.7}))
    without = row(generation({"iou": 0.3}))
    assert Source("x", (Seen(with_cart), Seen(without))).metrics["iou"] == pytest.approx(0.4)
    assert "recall_cart" not in Source("x", (Seen(with_cart), Seen(without))).metrics
    assert Source("x", (Seen(with_cart),)).metrics["recall_cart"] == 0.7


def test_n_is_of_one_seed() -> None:
    assert Source("x", (Seen(row(n=100)), Seen(row(n=100)))).n == 100
