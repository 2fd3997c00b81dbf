"""The tables on screen show the document's numbers."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from browsing.bundle import Bundle
from browsing.forecast import Options
from tests.tiny import TinyEncoder
from training.dataset import Dataset
from training.evaluation import run
from training.evaluation.result import Decision, Evaluation, OutcomeMetrics
from training.evaluation.tables import screen as screens
from training.evaluation.tables import terminal


@pytest.fixture(scope="module")
def evaluation(bundle: Bundle, dataset: Dataset) -> Evaluation:
    return run.evaluate(bundle, dataset, TinyEncoder(), options=Options(samples=4), model="fallback")


def printed(evaluation: Evaluation, width: int = 400) -> str:
    """On a terminal, by default one on which every table fits."""
    screen = io.StringIO()
    screens.show(evaluation, Console(file=screen, width=width, force_terminal=True, color_system=None, highlight=False))
    return screen.getvalue()


def line(text: str, title: str, name: str) -> list[str]:
    """The cells of the first row called `name` in the table called `title`, without their intervals."""
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


def shown(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}"


def test_cells_are_the_documents_numbers(evaluation: Evaluation) -> None:
    text, combined = printed(evaluation), evaluation.combined
    pages = combined.pages
    expected = [shown(v) for v in (pages.hr, pages.ioa, pages.iop, pages.iou, pages.new_p, pages.val_p)]
    assert line(text, "Page generation, mean", "Combined")[1:] == expected
    own = combined.outcomes.values()
    expected = [shown(getattr(o, metric)) for metric in ("accuracy", "recall", "precision", "f1") for o in own]
    assert [cell.rstrip("*") for cell in line(text, "Outcome prediction", "Combined")[1:]] == expected
    raw = combined.probabilities["cart"].raw
    assert raw.auc is not None
    assert raw.average_precision is not None
    assert raw.ece is not None
    assert raw.ece_null is not None
    figures = (combined.probabilities["cart"].rate, raw.mean, raw.brier, raw.log_loss, raw.auc, raw.average_precision)
    # The mixture's probabilities are not calibrated here: there are no such columns.
    assert line(text, "Cart: quality", "Combined")[1:] == [shown(v) for v in (*figures, raw.ece, raw.ece_null)]
    assert combined.loss is not None
    assert combined.ranking is not None
    row = line(text, "Test loss", "Combined")
    assert row[1] == shown(combined.loss.nats_per_page)
    assert row[-1] == shown(combined.ranking.mrr)
    assert line(text, "BLEU", "Combined")[0] == "21"
    assert evaluation.bundle_version[:12] in text


def test_intervals_stand_below_their_figures(evaluation: Evaluation) -> None:
    low, high = evaluation.combined.intervals["pages.iou"]
    text = printed(evaluation)
    table = text[text.index("Page generation, mean") : text.index("Page generation, variance")]
    assert f"[{low:.3f}, {high:.3f}]" in table
    assert "95 % intervals" in text
    plain = evaluation.combined.model_copy(update={"intervals": {}})
    bare = evaluation.model_copy(
        update={
            "clusters": (),
            "combined": plain.model_copy(update={"others": {}}),
            "settings": evaluation.settings.model_copy(update={"resamples": 0}),
        }
    )
    text = printed(bare)
    assert "intervals," not in text
    assert "[" not in text[text.index("Page generation, mean") : text.index("Outcome prediction")]


def test_the_other_decode_has_a_line_where_it_differs(evaluation: Evaluation) -> None:
    text = printed(evaluation)
    greedy = evaluation.combined.others["greedy"]
    cells = line(text, "Page generation, mean", "Combined, greedy")
    assert cells[:2] == ["21", shown(greedy.pages.hr)]
    loss = text[text.index("Test loss") : text.index("Cart: quality")]
    assert "greedy" not in loss


def test_propensity_is_shown_by_decile(evaluation: Evaluation) -> None:
    text = printed(evaluation)
    buckets = evaluation.combined.probabilities["cart"].raw.buckets
    title = "Cart, raw: users by decile of propensity"
    assert line(text, title, "1")[:4] == [
        str(buckets[0].n),
        shown(buckets[0].lower),
        shown(buckets[0].upper),
        shown(buckets[0].predicted),
    ]
    assert "Purchase, raw: users by decile" in text


def test_thresholds_are_shown(evaluation: Evaluation) -> None:
    metrics = OutcomeMetrics(accuracy=0.9, recall=0.5, precision=0.6, f1=0.55, predicted=5, happened=6, hits=3)
    known = Decision(threshold=0.42, users=500, positives=60, kind="calibrated", metrics=metrics)
    unknown = Decision(threshold=None, users=500, positives=2, kind="raw", metrics=None)
    own = evaluation.combined.model_copy(update={"decisions": {"cart": known, "purchase": unknown}})
    text = printed(evaluation.model_copy(update={"combined": own}))
    assert line(text, "Thresholds", "Cart") == ["0.420", "calibrated", "500", "60"]
    assert line(text, "Thresholds", "Purchase") == ["–", "raw", "500", "2"]
    assert line(text, "Outcome prediction, from the probability", "Combined")[1] == "0.900"


def test_a_ratio_without_a_denominator_is_marked(evaluation: Evaluation) -> None:
    nothing = OutcomeMetrics(accuracy=0.9, recall=0.0, precision=0.0, f1=0.0, predicted=0, happened=2, hits=0)
    outcomes = {**evaluation.combined.outcomes, "cart": nothing}
    marked = evaluation.model_copy(update={"combined": evaluation.combined.model_copy(update={"outcomes": outcomes})})
    cells = line(printed(marked), "Outcome prediction", "Combined")[1:]
    names = list(outcomes)
    assert cells[3 + names.index("cart")] == "0.000"  # recall: it happened to two
    assert cells[6 + names.index("cart")] == "0.000*"  # precision: predicted for nobody
    assert cells[9 + names.index("cart")] == "0.000"
    assert "* Nothing to divide by" in printed(marked)


def test_a_site_without_outcomes_has_no_such_tables(evaluation: Evaluation) -> None:
    bare: dict[str, object] = {"outcomes": {}, "probabilities": {}, "loss": None, "others": {}}
    rows = tuple(row.model_copy(update=bare) for row in evaluation.clusters)
    text = printed(
        evaluation.model_copy(update={"clusters": rows, "combined": evaluation.combined.model_copy(update=bare)})
    )
    assert "Outcome" not in text
    assert "Nats" not in text


def test_a_clusters_name_is_not_markup(evaluation: Evaluation) -> None:
    rows = tuple(row.model_copy(update={"name": "[red]bags[/]"}) for row in evaluation.clusters)
    assert "[red]bags[/]" in printed(evaluation.model_copy(update={"clusters": rows}))


@pytest.mark.parametrize("width", [70, 100, terminal.WIDTH, 400])
def test_a_long_name_is_folded_and_no_figure_is_cut(evaluation: Evaluation, width: int) -> None:
    name = "forty characters, which are the limit.:)"
    assert len(name) == 40
    crowd = {"name": name, "n": 123_456}
    rows = tuple(row.model_copy(update=crowd) for row in evaluation.clusters)
    crowded = evaluation.model_copy(update={"clusters": rows})
    text = printed(crowded, width)
    assert "…" not in text
    made = [grid for grid in screens.tables(crowded) if grid.columns[0] == "N" and grid.first == "Model"]
    assert text.count("123,456") == len(made) * len(rows)
    *body, last = text.strip().splitlines()
    assert max(map(len, body)) <= width
    assert last.startswith(evaluation.method)  # one long line, which a terminal wraps
