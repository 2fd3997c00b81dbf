"""The tables of the paper, and ours, from the rows of evaluations. Numbers of tables are HeTLM's, Dataset I and II."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from training.evaluation.compare.composites import Composite, composites
from training.evaluation.result import Bin
from training.evaluation.rows import EITHER
from training.evaluation.tables.grid import NONE, Cell, Grid, Line, Section
from training.evaluation.tables.sources import Better, Column, Source, cells

TITLES = {"cart": "Cart", "purchase": "Purchase", EITHER: "Cart/Purchase"}
PAGES = {"hr": "HR", "ioa": "IoA", "iop": "IoP", "iou": "IoU", "new_p": "New-P", "val_p": "Val-P"}
VARIANCES = {"hr": "HR-var", "ioa": "IoA-var", "iog": "IoG-var", "iou": "IoU-var"}
RANKING = {
    **{f"recall_{n}": f"Recall@{n}" for n in (5, 10, 20)},
    **{f"ndcg_{n}": f"NDCG@{n}" for n in (5, 10, 20)},
    "mrr": "MRR",
}
LENGTHS = {
    "generated_views": "Views\ngenerated",
    "actual_views": "Views\nactual",
    "generated_pages": "Pages\ngenerated",
    "actual_pages": "Pages\nactual",
    "actual_unknown": "Actual\nunknown",
    "actual_new": "Actual\nnew",
    "empty": "Empty",
    "unfinished_paths": "Paths\nunfinished",
}
BINS = {
    "buckets": ("users by decile of propensity, the likeliest first", "Decile"),
    "reliability": ("reliability of the probability", "Bin"),
}
"""Fields of `ProbabilityMetrics` that hold bins: (title, what a bin is called)."""
COMPOSITES = {"outcomes": "Outcome\nPrediction", "pages": "Page Gen\nMean", "variance": "Page Gen\nVar"}


@dataclass(frozen=True, slots=True)
class Block:
    """A method's lines under its heading, or one line without."""

    heading: str | None
    sources: tuple[Source, ...]


def tables(
    blocks: Sequence[Block], about: str = "", prefix: str = "", reference: Source | None = None
) -> Iterator[Grid]:
    """Every table that has a figure. `about`: what to say of all; `prefix`: what every title begins with (the log).

    `reference`: the single model of the composites; without one there are none.
    """
    made = [
        _pages(blocks, "Page generation, mean over users (higher is better)", "pages", PAGES, "higher"),
        _pages(blocks, "Page generation, variance over users (lower is better)", "variance", VARIANCES, "lower"),
        _outcomes(blocks, "Outcome prediction, from the generated session (higher is better)", "outcomes.{}"),
        _outcomes(
            blocks,
            "Outcome prediction, from the probability at a threshold chosen on validation users (higher is better)",
            "decisions.{}.metrics",
        ),
        None if reference is None else _composites(blocks, reference),
        _text(blocks),
        _loss(blocks),
        *(_probabilities(blocks, outcome) for outcome in _outcomes_of(blocks, "probabilities.{}.rate")),
        _lengths(blocks),
    ]
    for one in made:
        if one is not None:
            yield replace(one, title=prefix + one.title, about=about)


def bins(blocks: Sequence[Block], prefix: str = "", parts: Sequence[str] = tuple(BINS)) -> Iterator[Grid]:
    """Per outcome, raw and calibrated, predicted against actual in the `parts` of `BINS`. For combined rows of one
    seed."""
    ranked = [(label, source) for label, source in _ranked(blocks) if len(source.rows) == 1]
    for outcome in _outcomes_of(blocks, "probabilities.{}.rate"):
        for kind in ("raw", "calibrated"):
            for part in parts:
                sections = [
                    bin_lines(label, own) for label, source in ranked if (own := _bins(source, outcome, kind, part))
                ]
                if sections:
                    yield bins_grid(f"{prefix}{_title(outcome)}, {kind}", part, sections)


def bins_grid(what: str, part: str, sections: Sequence[Section]) -> Grid:
    """`what` the probabilities are of; `part`: of `BINS`; `sections`: of `bin_lines`."""
    title, first = BINS[part]
    return Grid(
        f"{what}: {title}",
        ("N", "Least p", "Highest p", "Predicted", "Actual", "95 % interval", "Happened"),
        tuple(sections),
        "Predicted: mean probability. Actual: share to whom it happened, its interval Wilson's.",
        first=first,
    )


def bin_lines(label: str, bins: Sequence[Bin]) -> Section:
    """A method's bins under its name, numbered from 1."""
    lines = tuple(
        Line(
            str(place),
            (
                Cell(f"{one.n:,}"),
                Cell(f"{one.lower:.3f}"),
                Cell(f"{one.upper:.3f}"),
                Cell(f"{one.predicted:.3f}"),
                Cell(f"{one.observed:.3f}"),
                Cell(f"[{one.interval[0]:.3f}, {one.interval[1]:.3f}]"),
                Cell(f"{one.happened:,}"),
            ),
        )
        for place, one in enumerate(bins, 1)
    )
    return Section(label, lines)


def grid(
    title: str, columns: Sequence[Column], blocks: Sequence[Block], note: str = "", counted: str | None = None
) -> Grid | None:
    """A line per source with its N; columns without any figure are left out. None where no column is left. `counted`:
    the path of the number of users, where the figures are of users instead of next sessions."""
    sources = _flat(blocks)
    known = [column for column in columns if any(source.values(column.path) for source in sources)]
    if not known:
        return None
    numbers = [source.n if counted is None else source.value(counted) or 0 for source in sources]
    by_column = [[Cell(f"{number:,.0f}") for number in numbers], *(cells(column, sources) for column in known)]
    by_line = iter(zip(*by_column, strict=True))
    return Grid(
        title,
        ("N" if counted is None else "Users", *(column.header for column in known)),
        tuple(
            Section(block.heading, tuple(Line(s.label, next(by_line), s.strong) for s in block.sources))
            for block in blocks
        ),
        note,
    )


def _flat(blocks: Sequence[Block]) -> list[Source]:
    return [source for block in blocks for source in block.sources]


def _ranked(blocks: Sequence[Block]) -> list[tuple[str, Source]]:
    """The combined lines, each with its method's label: its block's heading, or else its own."""
    return [(block.heading or source.label, source) for block in blocks for source in block.sources if source.ranked]


def _pages(blocks: Sequence[Block], title: str, part: str, names: dict[str, str], better: Better) -> Grid | None:
    """Tables 2 and 12, and 3 and 13."""
    return grid(title, [Column(header, f"{part}.{name}", better) for name, header in names.items()], blocks)


def _outcomes(blocks: Sequence[Block], title: str, place: str) -> Grid | None:
    """Tables 4 and 11, and besides the F1 of each outcome alone. `place`: where an outcome's metrics stand."""
    columns = []
    outcomes = _outcomes_of(blocks, f"{place}.accuracy")
    for metric, header, divisors in (
        ("accuracy", "Acc", ()),
        ("recall", "Rec", ("happened",)),
        ("precision", "Prec", ("predicted",)),
        ("f1", "F1", ("happened", "predicted")),
    ):
        for outcome in outcomes:
            own = place.format(outcome)
            paths = tuple(f"{own}.{name}" for name in divisors)
            columns.append(Column(f"{header}\n{_title(outcome)}", f"{own}.{metric}", "higher", paths))
    made = grid(title, columns, blocks)
    if made is not None and any(c.text.endswith("*") for s in made.sections for line in s.lines for c in line.cells):
        return replace(made, note="* Nothing to divide by: counted as 0.")
    return made


def _composites(blocks: Sequence[Block], reference: Source) -> Grid | None:
    """Tables 5 and 14: the combined rows against the reference's."""
    lines = []
    for label, source in _ranked(blocks):
        if source.rows != reference.rows:
            own = composites(source.metrics, reference.metrics)
            parts = [own.groups.get(group) for group in COMPOSITES]
            lines.append(Line(label, tuple(map(_composite, [*parts, own.overall]))))
    if not lines:
        return None
    return Grid(
        "Composites: share of the paper's metrics on which a model is better",
        (*COMPOSITES.values(), "Overall\nComposite"),
        (Section(f"Compared with {reference.label}", tuple(lines)),),
        "On unrounded values, of means over seeds where there are several; a range counts ties as lost, and as won.",
    )


def _composite(own: Composite | None) -> Cell:
    if own is None:
        return Cell(NONE)
    counted = f"{own.wins} of {own.number}"
    if own.ties:
        return Cell(f"{own.strict:.3f} to {own.most:.3f}", f"{counted}, {own.ties} tied")
    return Cell(f"{own.strict:.3f}", counted)


def _text(blocks: Sequence[Block]) -> Grid | None:
    """Table 6."""
    columns = [
        Column("BLEU", "text.bleu", "higher", scale=0.01),
        Column("BERT-P", "text.bert_precision", "higher"),
        Column("BERT-R", "text.bert_recall", "higher"),
        Column("BERT-F1", "text.bert_f1", "higher"),
    ]
    return grid("BLEU and BERTScore (higher is better)", columns, blocks)


def _loss(blocks: Sequence[Block]) -> Grid | None:
    columns = [
        Column("Nats\nper page", "loss.nats_per_page", "lower"),
        Column("Mean of\nusers", "loss.user_mean", "lower"),
        *(Column(header, f"ranking.{name}", "higher") for name, header in RANKING.items()),
    ]
    return grid("Test loss of the next session (lower is better), and pages ranked by probability", columns, blocks)


def _probabilities(blocks: Sequence[Block], outcome: str) -> Grid | None:
    """One outcome's probabilities, raw and calibrated."""
    columns = [Column("Rate", f"probabilities.{outcome}.rate")]
    better: Better | None
    for metric, header, better in (
        ("mean", "Mean p", None),
        ("brier", "Brier", "lower"),
        ("log_loss", "Log loss", "lower"),
        ("auc", "AUC", "higher"),
        ("average_precision", "AP", "higher"),
        ("ece", "ECE", "lower"),
        ("ece_null", "ECE null", None),
    ):
        for kind, short in (("raw", "raw"), ("calibrated", "cal.")):
            columns.append(Column(f"{header}\n{short}", f"probabilities.{outcome}.{kind}.{metric}", better))
    note = "ECE null: what a calibrated forecaster stays below in 95 % of the cases."
    return grid(f"{_title(outcome)}: quality of the probability", columns, blocks, note)


def _lengths(blocks: Sequence[Block]) -> Grid | None:
    counts = [n for n in LENGTHS if n.endswith(("views", "pages"))]
    columns = [Column(header, f"lengths.{name}", digits=2 if name in counts else 3) for name, header in LENGTHS.items()]
    return grid("Lengths of sessions, means over users; the other columns are shares", columns, blocks)


def _bins(source: Source, outcome: str, kind: str, part: str) -> tuple[Bin, ...]:
    probability = source.rows[0].row.probabilities.get(outcome)
    quality = None if probability is None else getattr(probability, kind)
    own: tuple[Bin, ...] = () if quality is None else getattr(quality, part)
    return own


def _outcomes_of(blocks: Sequence[Block], path: str) -> list[str]:
    """Outcomes with a figure at `path` in some source, in the paper's order."""
    rows = [seen.row for source in _flat(blocks) for seen in source.rows]
    seen = {name for row in rows for name in (*row.outcomes, *row.decisions, *row.probabilities)}
    ordered = [*(name for name in TITLES if name in seen), *sorted(seen - TITLES.keys())]
    return [name for name in ordered if any(s.values(path.format(name)) for s in _flat(blocks))]


def _title(outcome: str) -> str:
    return TITLES.get(outcome, outcome)
