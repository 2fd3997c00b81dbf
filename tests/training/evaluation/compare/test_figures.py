"""Which figures are paired, each against the one that an evaluation reports of the same users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from tests.training.evaluation.compare.test_paired import written
from tests.training.evaluation.site import sample
from tests.training.evaluation.test_rows import USERS, judged
from training.evaluation.compare.command import show
from training.evaluation.compare.composites import PAGES, VARIANCES
from training.evaluation.compare.figures import better, figures_of, ordered
from training.evaluation.compare.paired import Result, compare
from training.evaluation.metrics.bleu import Overlaps
from training.evaluation.metrics.decisions import Threshold
from training.evaluation.metrics.text import TextScores
from training.evaluation.summary import rows
from training.evaluation.users import per_user

CHOSEN = {"cart": Threshold(0.5, 90, 30, "raw"), "cart_or_purchase": Threshold(0.6, 90, 31, "raw")}
OUTCOMES = ("cart", "purchase", "cart_or_purchase")
COUNTS = ("accuracy", "recall", "precision", "f1")


def stored() -> pl.DataFrame:
    """The values per user of `test_rows.USERS`, five times over, as an evaluation writes them; decoded greedily."""
    users = [*USERS] * 5
    samples = [sample(f"u{i}", [[before], actual]) for i, (_, before, actual, *_) in enumerate(users)]
    return per_user(judged(users, thresholds=CHOSEN, text=measured), samples, "d" * 64)


def measured(generated: Sequence[Sequence[str]], actual: Sequence[Sequence[str]]) -> TextScores:
    """With the number of pages in tenths as all three BERTScores."""
    bert = np.repeat(np.array([[len(session) / 10] for session in generated], np.float32), 3, axis=1)
    return TextScores(Overlaps.of(generated, actual), bert.astype(np.float64))


def greedy(path: Path, frame: pl.DataFrame) -> Result:
    settings = written(path.with_name("settings.json")).document.settings.model_copy(update={"decode": "greedy"})
    return written(path, frame, settings=settings)


def test_every_figure_is_the_one_that_the_evaluation_reports() -> None:
    frame = stored()
    _, combined = rows(judged([*USERS] * 5, thresholds=CHOSEN, text=measured), ())
    point = figures_of(frame, "greedy", np.arange(frame.height)).point()
    assert combined.text is not None
    expected = {f"pages.{name}": value for name, value in combined.pages.model_dump().items()}
    expected |= {f"variance.{name}": value for name, value in combined.variance.model_dump().items()}
    expected |= {f"text.{name}": value for name, value in combined.text.model_dump().items()}
    expected |= {
        f"outcomes.{outcome}.{name}": getattr(own, name)
        for outcome, own in combined.outcomes.items()
        for name in COUNTS
    }
    expected |= {
        f"decisions.{outcome}.{name}": getattr(own.metrics, name)
        for outcome, own in combined.decisions.items()
        for name in COUNTS
    }
    assert len(expected) == 6 + 4 + 4 + 12 + 8
    assert {name: point[name] for name in expected} == pytest.approx(expected)
    # By hand: the cart was predicted for the third of every four, to whom it happened; purchases never were.
    assert [point[f"outcomes.cart.{name}"] for name in COUNTS] == [1.0, 1.0, 1.0, 1.0]
    assert [point[f"outcomes.purchase.{name}"] for name in COUNTS] == [0.5, 0.0, 0.0, 0.0]
    # P(cart) is 0.2, 0.4, 0.8 and 0.6, the threshold 0.5.
    assert [point[f"decisions.cart.{name}"] for name in COUNTS] == pytest.approx([0.75, 1.0, 0.5, 2 / 3])


def test_text_is_paired(tmp_path: Path) -> None:
    """A method whose sessions are the actual ones, against the others."""
    users = [*USERS] * 5
    samples = [sample(f"u{i}", [[before], actual]) for i, (_, before, actual, *_) in enumerate(users)]
    right = judged([(user[2], *user[1:]) for user in users], text=measured)
    base = greedy(tmp_path / "a.json", stored())
    other = greedy(tmp_path / "b.json", per_user(right, samples, "d" * 64))
    own = compare(base, [other], resamples=200, seed=0).others[0].differences["text.bleu"]
    assert own.other == pytest.approx(100)
    assert (own.better, own.verdict) == ("higher", "better")
    assert own.interval[0] <= own.difference <= own.interval[1]


def test_all_twenty_metrics_of_the_paper_are_paired(tmp_path: Path) -> None:
    base = greedy(tmp_path / "a.json", stored())
    worse = stored().with_columns(pl.lit(False).alias("greedy.cart.predicted"), pl.col("greedy.iou") / 2)
    (compared,) = compare(base, [greedy(tmp_path / "b.json", worse)], resamples=200, seed=0).others
    own = compared.differences
    assert {f"pages.{name}" for name in PAGES} <= own.keys()
    assert {f"variance.{name.removesuffix('_var')}" for name in VARIANCES} <= own.keys()
    assert {f"outcomes.{outcome}.{name}" for outcome in OUTCOMES for name in COUNTS} <= own.keys()
    recall = own["outcomes.cart.recall"]
    assert (recall.reference, recall.other, recall.better, recall.verdict) == (1.0, 0.0, "higher", "worse")
    assert own["outcomes.cart.accuracy"].difference == pytest.approx(-0.25)
    # Halving every IoU quarters its variance: the lower, the better.
    iou = own["variance.iou"]
    assert iou.other == pytest.approx(iou.reference / 4)
    assert (iou.better, iou.verdict) == ("lower", "better")
    assert own["variance.hr"].difference == 0.0


def test_values_without_the_newer_columns_are_compared_without_their_figures(tmp_path: Path) -> None:
    newer = stored()
    lacking = [name for name in newer.columns if name.endswith((".predicted", ".decided")) or "bleu" in name]
    older = greedy(tmp_path / "old.json", newer.drop(lacking))
    for pair in ((older, greedy(tmp_path / "a.json", newer)), (greedy(tmp_path / "b.json", newer), older)):
        own = compare(pair[0], pair[1:], resamples=100, seed=0).others[0].differences
        assert {"pages.iou", "variance.iou", "text.bert_f1", "cart.brier"} <= own.keys()
        assert not [name for name in own if name.startswith(("outcomes.", "decisions.", "text.bleu"))]


def test_lower_is_better_of_variances_and_losses() -> None:
    assert [better(name) for name in ("pages.hr", "variance.hr", "cart.raw.brier", "pages.generated")] == [
        "higher",
        "lower",
        "lower",
        "neither",
    ]


def test_groups_stay_together_in_the_order_of_the_tables() -> None:
    names = ["pages.hr", "loss.user_mean", "cart.brier", "outcomes.purchase.f1", "variance.hr", "outcomes.cart.f1"]
    assert ordered([*names, "cart.auc", "pages.iou", "worst_decile.iou", "decisions.cart.f1"]) == [
        "pages.hr",
        "pages.iou",
        "variance.hr",
        "outcomes.purchase.f1",
        "outcomes.cart.f1",
        "decisions.cart.f1",
        "loss.user_mean",
        "worst_decile.iou",
        "cart.brier",
        "cart.auc",
    ]


def test_the_screen_names_every_group(tmp_path: Path) -> None:
    base = greedy(tmp_path / "a.json", stored())
    console = Console(record=True, width=160, highlight=False)
    show(compare(base, [base], resamples=100, seed=0), console)
    shown = console.export_text()
    for label in (
        "Pages: New-P",
        "Variance over users: IoG",
        "Cart, page in the session: recall",
        "Cart/Purchase, at the threshold: F1",
        "As text: BLEU (0 to 100)",
        "As text: BERTScore F1",
        "Cart: log loss",
        "Purchase uncalibrated: Brier",
        "Worst 10 % of users: IoU",
    ):
        assert label in shown
