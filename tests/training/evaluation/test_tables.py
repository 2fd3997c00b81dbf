"""The tables on screen show the document's numbers."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from browsing.bundle import Bundle
from browsing.forecast import Options
from tests.tiny import TinyEncoder
from training.dataset import Dataset
from training.evaluation import run, tables
from training.evaluation.result import Evaluation, OutcomeMetrics


@pytest.fixture(scope="module")
def evaluation(bundle: Bundle, dataset: Dataset) -> Evaluation:
    return run.evaluate(bundle, dataset, TinyEncoder(), options=Options(samples=4), model="markov")


def printed(evaluation: Evaluation) -> str:
    screen = io.StringIO()
    tables.show(evaluation, Console(file=screen, width=60, highlight=False))
    return screen.getvalue()


def line(text: str, title: str, name: str) -> list[str]:
    """The cells of the first row called `name` in the table called `title`."""
    for row in text[text.index(title) :].splitlines():
        if row.strip().startswith(f"{name} "):
            return row.strip().removeprefix(name).split()
    raise AssertionError(f"no row {name!r} under {title!r}")


def test_every_table_has_a_row_per_cluster_and_the_combined_one_with_n(evaluation: Evaluation) -> None:
    text = printed(evaluation)
    for title in ("Page generation, mean", "Page generation, variance", "Outcome prediction", "Test loss"):
        for row in evaluation.clusters:
            assert line(text, title, f"{row.cluster} {row.name}")[0] == str(row.n)
        assert line(text, title, "Combined")[0] == "21"
    assert "…" not in text


def test_cells_are_the_documents_numbers(evaluation: Evaluation) -> None:
    text, combined = printed(evaluation), evaluation.combined
    pages = combined.pages
    shown = [f"{v:.3f}" for v in (pages.hr, pages.ioa, pages.iop, pages.iou, pages.new_p, pages.val_p)]
    assert line(text, "Page generation, mean", "Combined")[1:] == shown
    variances = combined.variance
    shown = [f"{v:.3f}" for v in (variances.hr, variances.ioa, variances.iog, variances.iou)]
    assert line(text, "Page generation, variance", "Combined")[1:] == shown
    own = combined.outcomes.values()
    shown = [f"{getattr(o, metric):.3f}" for metric in ("accuracy", "recall", "precision", "f1") for o in own]
    assert [cell.rstrip("*") for cell in line(text, "Outcome prediction", "Combined")[1:]] == shown
    cart, quality = combined.outcomes["cart"], combined.probabilities["cart"]
    shown = ["Cart", str(cart.predicted), str(cart.happened), str(cart.hits), f"{quality.rate:.3f}"]
    row = line(text, "Outcomes: users", "Combined")[1:]
    assert row[:5] == shown
    assert quality.raw.auc is not None
    raw = (quality.raw.mean, quality.raw.brier, quality.raw.log_loss, quality.raw.auc)
    assert row[5::2] == [f"{value:.3f}" for value in raw]
    assert row[6::2] == ["–"] * 4  # the mixture's probabilities are not calibrated
    assert combined.loss is not None
    assert line(text, "Test loss", "Combined")[1] == f"{combined.loss.nats_per_page:.3f}"
    assert evaluation.bundle_version[:12] in text


def test_a_ratio_without_a_denominator_is_marked(evaluation: Evaluation) -> None:
    nothing = OutcomeMetrics(accuracy=0.9, recall=0.0, precision=0.0, f1=0.0, predicted=0, happened=2, hits=0)
    outcomes = {**evaluation.combined.outcomes, "cart": nothing}
    marked = evaluation.model_copy(update={"combined": evaluation.combined.model_copy(update={"outcomes": outcomes})})
    cells = line(printed(marked), "Outcome prediction", "Combined")[1:]
    names = list(outcomes)
    assert cells[3 + names.index("cart")] == "0.000"  # recall: it happened to two
    assert cells[6 + names.index("cart")] == "0.000*"  # precision: predicted for nobody
    assert cells[9 + names.index("cart")] == "0.000"
    assert "* nothing to divide by" in printed(marked)


def test_a_site_without_outcomes_has_no_such_tables(evaluation: Evaluation) -> None:
    bare: dict[str, object] = {"outcomes": {}, "probabilities": {}, "loss": None}
    rows = tuple(row.model_copy(update=bare) for row in evaluation.clusters)
    text = printed(
        evaluation.model_copy(update={"clusters": rows, "combined": evaluation.combined.model_copy(update=bare)})
    )
    assert "Outcome" not in text
    assert line(text, "Test loss", "Combined")[1:3] == ["–", "–"]


def test_a_clusters_name_is_not_markup(evaluation: Evaluation) -> None:
    rows = tuple(row.model_copy(update={"name": "[red]bags[/]"}) for row in evaluation.clusters)
    assert "[red]bags[/]" in printed(evaluation.model_copy(update={"clusters": rows}))


def test_a_long_name_is_folded_and_no_figure_is_cut(evaluation: Evaluation) -> None:
    name = "forty characters, which are the limit.:)"
    assert len(name) == 40
    crowd = {"name": name, "n": 123_456}
    rows = tuple(row.model_copy(update=crowd) for row in evaluation.clusters)
    text = printed(evaluation.model_copy(update={"clusters": rows}))
    assert "…" not in text
    assert text.count("123,456") == 5 * len(rows)
    assert max(map(len, text.splitlines())) <= tables.WIDTH
