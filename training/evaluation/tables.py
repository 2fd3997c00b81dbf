"""The result on screen, in the shape of the paper's Tables 2, 3 and 4, and what the paper does not show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from training.evaluation.result import Evaluation, OutcomeMetrics, ProbabilityMetrics, Row
from training.evaluation.rows import EITHER

WIDTH = 140
"""Columns of text that every table fits into, with a cluster's name folded. A narrower terminal breaks the lines, which
is ugly; but no figure is cut."""
TITLES = {"cart": "Cart", "purchase": "Purchase", EITHER: "Cart/Purchase"}
SHORT = {"cart": "Cart", "purchase": "Purch.", EITHER: "C/P"}
PAGES = {"hr": "HR", "ioa": "IoA", "iop": "IoP", "iou": "IoU", "new_p": "New-P", "val_p": "Val-P"}
VARIANCES = {"hr": "HR-var", "ioa": "IoA-var", "iog": "IoG-var", "iou": "IoU-var"}
NONE = "–"


def show(evaluation: Evaluation, console: Console) -> None:
    """Print every table, at least `WIDTH` columns wide."""
    console.width = max(console.width, WIDTH)
    for table in tables(evaluation):
        console.print(table)
        console.print()
    settings = evaluation.settings
    console.print(
        Text(
            f"{evaluation.method}, bundle {evaluation.bundle_version[:12]}, dataset {evaluation.dataset_sha256[:12]}: "
            f"{settings.users:,} of {settings.of_users:,} users of the {settings.split} split, decode "
            f"{settings.decode}, {settings.samples} paths of at most {settings.max_steps} pages, seed {settings.seed}"
        ),
        soft_wrap=True,
    )


def tables(evaluation: Evaluation) -> Iterator[Table]:
    """Every table has a row per cluster and the combined row last, each with its number of users N."""
    rows = (*evaluation.clusters, evaluation.combined)
    yield _simple("Page generation, mean over users (higher is better)", rows, "pages", PAGES)
    yield _simple("Page generation, variance over users (lower is better)", rows, "variance", VARIANCES)
    if evaluation.combined.outcomes:
        yield _outcomes(rows)
        yield _probabilities(rows)
    yield _rest(rows)


def _table(title: str, columns: Sequence[str], caption: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    table.show_edge, table.collapse_padding = False, True
    table.add_column("Model", min_width=20, max_width=24, overflow="fold")
    for column in ("N", *columns):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _add(table: Table, row: Row, cells: Sequence[str], first: bool = True) -> None:
    """The combined row stands apart, in bold. Only the `first` line of a row names it."""
    combined = row.cluster is None
    name = row.name if combined else f"{row.cluster} {row.name}"
    if combined and first:
        table.add_section()
    heading = (Text(name), f"{row.n:,}") if first else ("", "")
    table.add_row(*heading, *cells, style="bold" if combined else None)


def _simple(title: str, rows: Sequence[Row], part: str, columns: dict[str, str]) -> Table:
    table = _table(title, list(columns.values()))
    for row in rows:
        metrics = getattr(row, part)
        _add(table, row, [_number(getattr(metrics, name)) for name in columns])
    return table


def _outcomes(rows: Sequence[Row]) -> Table:
    names = list(rows[-1].outcomes)
    columns = [f"{metric}\n{SHORT[name]}" for metric in ("Acc", "Rec", "Prec", "F1") for name in names]
    caption = "* nothing to divide by (nothing predicted, or nothing happened): counted as 0; C/P: either of them"
    table = _table("Outcome prediction, from the decoded session (higher is better)", columns, caption)
    for row in rows:
        own = [row.outcomes[name] for name in names]
        cells = [_number(o.accuracy) for o in own]
        cells += [_number(o.recall, o.happened) for o in own]
        cells += [_number(o.precision, o.predicted) for o in own]
        cells += [_number(o.f1, o.predicted + o.happened) for o in own]
        _add(table, row, cells)
    return table


def _probabilities(rows: Sequence[Row]) -> Table:
    columns = ["Outcome", "Pre-\ndicted", "Hap-\npened", "Both", "Rate"]
    columns += [f"{metric}\n{kind}" for metric in ("Mean p", "Brier", "Log loss", "AUC") for kind in ("raw", "cal.")]
    table = _table("Outcomes: users, and the quality of the probabilities", columns)
    for row in rows:
        for place, (name, counts) in enumerate(row.outcomes.items()):
            known = row.probabilities.get(name)
            both = (known.raw, known.calibrated) if known else (None, None)
            _add(table, row, [TITLES[name], *_counts(counts, row.n), *_qualities(both)], place == 0)
    return table


def _counts(counts: OutcomeMetrics, n: int) -> list[str]:
    return [f"{counts.predicted:,}", f"{counts.happened:,}", f"{counts.hits:,}", _number(counts.happened / n)]


def _qualities(both: tuple[ProbabilityMetrics | None, ProbabilityMetrics | None]) -> list[str]:
    return [
        NONE if quality is None else _number(getattr(quality, metric))
        for metric in ("mean", "brier", "log_loss", "auc")
        for quality in both
    ]


def _rest(rows: Sequence[Row]) -> Table:
    columns = [
        "Nats\nper page",
        "Mean of\nusers",
        "Views\ngener.",
        "Views\nactual",
        "Pages\ngener.",
        "Pages\nactual",
        "Actual\nunknown",
        "Actual\nnew",
        "Empty",
        "Paths\nunfinished",
    ]
    table = _table("Test loss of the next session, and lengths (mean over users)", columns)
    for row in rows:
        loss, lengths = row.loss, row.lengths
        _add(
            table,
            row,
            [
                *([NONE, NONE] if loss is None else [_number(loss.nats_per_page), _number(loss.user_mean)]),
                f"{lengths.generated_views:.2f}",
                f"{lengths.actual_views:.2f}",
                f"{lengths.generated_pages:.2f}",
                f"{lengths.actual_pages:.2f}",
                _number(lengths.actual_unknown),
                _number(lengths.actual_new),
                _number(lengths.empty),
                _number(lengths.unfinished_paths),
            ],
        )
    return table


def _number(value: float | None, denominator: int = 1) -> str:
    if value is None:
        return NONE
    return f"{value:.3f}" if denominator else f"{value:.3f}*"
