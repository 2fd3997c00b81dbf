"""The tables of the paper, made from documents with the paper's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.training.evaluation.documents import generation, outcome, quality, row
from training.evaluation.compare.composites import OUTCOMES, PAGES, VARIANCES
from training.evaluation.result import Bin, Decision, Generation, OutcomeProbability
from training.evaluation.tables.grid import Cell, Grid, Line
from training.evaluation.tables.layout import Block, bins, tables
from training.evaluation.tables.sources import Seen, Source

METRICS = ("accuracy", "recall", "precision", "f1")
PAPER: dict[str, Any] = json.loads((Path(__file__).parents[1] / "paper.json").read_text())["Dataset I"]


def printed(name: str) -> Generation:
    """A row of Tables 2, 3 and 4 as a document."""
    rows = PAPER["rows"][name]
    by_name = dict(zip(OUTCOMES, rows["outcomes"], strict=True))
    outcomes = {
        ours: outcome(0.0).model_copy(
            update={
                metric: by_name.get(f"{metric}_{theirs}", 0.0) for metric in ("accuracy", "recall", "precision", "f1")
            }
        )
        for ours, theirs in (("cart", "cart"), ("purchase", "purchase"), ("cart_or_purchase", "either"))
    }
    own = generation(
        dict(zip(PAGES, rows["pages"], strict=True)),
        {name.removesuffix("_var"): value for name, value in zip(VARIANCES, rows["variance"], strict=True)},
    )
    return own.model_copy(update={"outcomes": outcomes})


def paper_source(name: str) -> Source:
    return Source(name, (Seen(row(printed(name), n=5253)),), ranked=True)


def made(blocks: list[Block], **options: Any) -> dict[str, Grid]:
    return {grid.title: grid for grid in tables(blocks, **options)}


def find(grids: dict[str, Grid], start: str) -> Grid:
    (found,) = [grid for title, grid in grids.items() if title.startswith(start)]
    return found


def line(grid: Grid, label: str) -> Line:
    (found,) = [line for section in grid.sections for line in section.lines if line.label == label]
    return found


def cell(grid: Grid, label: str, column: str) -> Cell:
    return line(grid, label).cells[grid.columns.index(column)]


def test_the_papers_tables() -> None:
    names = [name for name in PAPER["rows"] if not name.startswith("QWEN")]
    sources = tuple(paper_source(name) for name in names)
    grids = made([Block(None, sources)], reference=sources[0])
    pages = find(grids, "Page generation, mean")
    assert pages.columns == ("N", "HR", "IoA", "IoP", "IoU", "New-P", "Val-P")
    assert [c.text for c in line(pages, "OPT-2.7B").cells] == [
        "5,253", "0.813", "0.424", "0.417", "0.310", "0.183", "0.0350",
    ]  # fmt: skip
    best = {column: [n for n in names if cell(pages, n, column).best] for column in pages.columns[1:]}
    assert best["HR"] == ["OPT-350M HeTLM (alpha=5, beta=9)"]
    assert best["IoU"] == ["OPT-2.7B"]
    variance = find(grids, "Page generation, variance")
    assert variance.columns == ("N", "HR-var", "IoA-var", "IoG-var", "IoU-var")
    assert cell(variance, "OPT-350M Kmeans, K=6", "IoU-var").best
    outcomes = find(grids, "Outcome prediction, from the generated")
    assert outcomes.columns[1:4] == ("Acc\nCart", "Acc\nPurchase", "Acc\nCart/Purchase")
    assert cell(outcomes, "OPT-2.7B", "F1\nCart/Purchase").text == "0.542"
    composites = find(grids, "Composites")
    (section,) = composites.sections
    assert section.heading == "Compared with OPT-2.7B"
    assert [own.label for own in section.lines] == names[1:]  # the reference is not compared with itself
    ours = line(composites, "OPT-350M HeTLM (alpha=5, beta=9)")
    assert ours.cells == (
        Cell("0.400 to 0.500", "4 of 10, 1 tied"),
        Cell("0.500", "3 of 6"),
        Cell("1.000", "4 of 4"),
        Cell("0.550 to 0.600", "11 of 20, 1 tied"),
    )


def test_without_a_reference_there_are_no_composites_and_without_outcomes_no_such_tables() -> None:
    titles = list(made([Block(None, (Source("x", (Seen(row()),), ranked=True),))]))
    assert [title.split(",")[0].split(" of ")[0].split(" (")[0] for title in titles] == [
        "Page generation",
        "Page generation",
        "Test loss",
        "Lengths",
    ]


def test_composites_of_a_site_without_outcomes() -> None:
    sources = tuple(Source(str(v), (Seen(row(generation({"iou": v}))),), ranked=True) for v in (0.3, 0.4))
    composites = find(made([Block(None, sources)], reference=sources[0]), "Composites")
    assert line(composites, "0.4").cells[0] == Cell("–")
    assert line(composites, "0.4").cells[3] == Cell("0.100 to 1.000", "1 of 10, 9 tied")
    assert not [title for title in made([Block(None, sources[:1])], reference=sources[0]) if "Composites" in title]


def test_a_method_with_clusters_is_called_by_its_heading() -> None:
    clusters = Block(
        "hetlm",
        (
            Source("0 bags", (Seen(row(generation({"iou": 0.9}))),)),
            Source("Combined", (Seen(row(generation({"iou": 0.4}))),), strong=True, ranked=True),
        ),
    )
    single = Source("single", (Seen(row()),), ranked=True)
    grids = made([clusters, Block(None, (single,))], reference=single)
    pages = find(grids, "Page generation, mean")
    assert [section.heading for section in pages.sections] == ["hetlm", None]
    assert [cell(pages, label, "IoU").best for label in ("0 bags", "Combined", "single")] == [False, True, False]
    assert line(find(grids, "Composites"), "hetlm").cells[3].note == "1 of 10, 9 tied"


def test_bleu_is_printed_as_the_paper_does_and_only_what_was_measured() -> None:
    sources = tuple(Source(str(b), (Seen(row(generation(bleu=b))),), ranked=True) for b in (37.6, 25.4))
    grid = find(made([Block(None, sources)]), "BLEU")
    assert grid.columns == ("N", "BLEU")
    assert cell(grid, "37.6", "BLEU") == Cell("0.376", best=True)


def test_ratios_without_a_denominator_are_explained() -> None:
    own = generation().model_copy(update={"outcomes": {"cart": outcome(0.0, predicted=0)}})
    grid = find(made([Block(None, (Source("x", (Seen(row(own)),)),))]), "Outcome prediction")
    assert cell(grid, "x", "Prec\nCart").text == "0.0000*"
    assert cell(grid, "x", "Rec\nCart").text == "0.0000"
    assert "Nothing to divide by" in grid.note


def test_probabilities_and_decisions_by_outcome() -> None:
    decided = Decision(threshold=0.4, users=9, positives=3, kind="raw", metrics=outcome(0.6))
    own = row(log_losses={"purchase": 0.5, "cart": 0.6}).model_copy(update={"decisions": {"cart": decided}})
    grids = made([Block(None, (Source("x", (Seen(own),)),))])
    assert [title for title in grids if "probability" in title and ":" in title] == [
        "Cart: quality of the probability",
        "Purchase: quality of the probability",
    ]
    assert cell(grids["Cart: quality of the probability"], "x", "Log loss\nraw").text == "0.600"
    assert "Log loss\ncal." not in grids["Cart: quality of the probability"].columns
    assert cell(find(grids, "Outcome prediction, from the probability"), "x", "F1\nCart").text == "0.600"


def test_about_and_prefix_stand_on_every_table() -> None:
    blocks = [Block(None, (Source("x", (Seen(row()),)),))]
    for grid in tables(blocks, about="Of the test split.", prefix="shop. "):
        assert grid.title.startswith("shop. ")
        assert grid.about == "Of the test split."


def test_bins_are_those_of_the_combined_row_of_one_seed() -> None:
    one = Bin(lower=0.1, upper=0.3, n=50, predicted=0.2, observed=0.24, interval=(0.14, 0.37), happened=12)
    raw = quality(0.5).model_copy(update={"buckets": (one,), "reliability": (one, one)})
    own = row().model_copy(update={"probabilities": {"cart": OutcomeProbability(rate=0.2, raw=raw, calibrated=None)}})
    single = Source("single", (Seen(own),), ranked=True)
    twice = Source("twice", (Seen(own), Seen(own)), ranked=True)
    cluster = Source("0 bags", (Seen(own),))
    buckets, reliability = bins([Block(None, (single, twice, cluster))], "shop. ")
    assert buckets.title == "shop. Cart, raw: users by decile of propensity, the likeliest first"
    assert [section.heading for section in buckets.sections] == ["single"]
    assert [c.text for c in buckets.sections[0].lines[0].cells] == [
        "50", "0.100", "0.300", "0.200", "0.240", "[0.140, 0.370]", "12",
    ]  # fmt: skip
    assert len(reliability.sections[0].lines) == 2
    assert [grid.title for grid in bins([Block(None, (single,))], parts=("reliability",))] == [
        "Cart, raw: reliability of the probability"
    ]
