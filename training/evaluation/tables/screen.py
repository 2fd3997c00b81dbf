"""One evaluation on screen, in the shape of the paper's Tables 2, 3, 4 and 6, and what the paper does not show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from training.evaluation.result import Evaluation
from training.evaluation.tables import layout, returning, terminal
from training.evaluation.tables.grid import NONE, Cell, Grid, Line, Section
from training.evaluation.tables.layout import Block
from training.evaluation.tables.sources import Seen, Source

INTERVALS = "In brackets: 95 % intervals, by resampling users."


def show(evaluation: Evaluation, console: Console) -> None:
    """Print every table; a table wider than the console is continued below."""
    terminal.show(tables(evaluation), console)
    settings = evaluation.settings
    console.print(
        Text(
            f"{evaluation.method}, seed {evaluation.seed}, bundle {evaluation.bundle_version[:12]}, dataset "
            f"{evaluation.dataset} {evaluation.dataset_sha256[:12]}: {settings.users:,} of {settings.of_users:,} next "
            f"sessions of the {settings.split} split, decode {settings.decode}, {settings.samples} paths of at most "
            f"{settings.max_steps} pages, seed {settings.seed}"
        ),
        soft_wrap=True,
    )


def tables(evaluation: Evaluation) -> Iterator[Grid]:
    """A line per cluster and the combined one, each with its number of next sessions; below them the combined one under
    the other decodes, where it differs."""
    combined = evaluation.combined
    lines = [Source(f"{row.cluster} {row.name}", (Seen(row),)) for row in evaluation.clusters]
    whole = Source("Combined", (Seen(combined, returns=evaluation.returns),), strong=True, ranked=True)
    others = [Source(f"Combined, {decode}", (Seen(combined, decode),)) for decode in combined.others]
    blocks = [Block(None, tuple(lines)), Block(None, (whole,))] if lines else [Block(None, (whole,))]
    note = INTERVALS if evaluation.settings.resamples else ""
    for grid in layout.tables([*blocks, Block(None, tuple(others))] if others else blocks, note):
        yield _without_repetition(grid) if others else grid
    yield from _thresholds(evaluation)
    yield from layout.bins(blocks, parts=("buckets",))
    yield from returning.tables([Block(None, (whole,))], note)
    yield from returning.bins([Block(None, (whole,))], parts=("buckets",))


def _without_repetition(grid: Grid) -> Grid:
    """What no decode touches needs no line per decode."""
    *sections, last = grid.sections
    (whole,) = sections[-1].lines
    if all(line.cells == whole.cells for line in last.lines):
        return replace(grid, sections=tuple(sections))
    return grid


def _thresholds(evaluation: Evaluation) -> Iterator[Grid]:
    decisions = evaluation.combined.decisions
    if decisions:
        lines = tuple(
            Line(
                layout.TITLES.get(outcome, outcome),
                (
                    Cell(NONE if own.threshold is None else f"{own.threshold:.3f}"),
                    Cell(own.kind),
                    Cell(f"{own.users:,}"),
                    Cell(f"{own.positives:,}"),
                ),
            )
            for outcome, own in decisions.items()
        )
        columns = ("Threshold", "Of probability", "Validation\nusers", "Of them\npositive")
        note = "The threshold of the highest F1 on users kept apart; none where too few of them are positive."
        yield Grid("Thresholds on the outcomes' probabilities", columns, (Section(None, lines),), note, first="Outcome")
