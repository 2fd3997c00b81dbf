"""Tables of what is answered about time: whether visitors come back within the horizon, and with which outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from training.evaluation.tables.grid import Grid
from training.evaluation.tables.layout import BINS, TITLES, Block, bin_lines, bins_grid, grid
from training.evaluation.tables.sources import Better, Column, Source

RETURNED = "returns.returned"
NOTE = (
    "Of every user with a visit before the reference time, whether they came back or not. Log loss, Brier of the rate: "
    "of saying the rate to everybody. ECE null: what a calibrated forecaster stays below in 95 % of the cases."
)
OUTCOME_NOTE = (
    "P(returns) times P(outcome | returns), against whether the first session within the days held it; any session: "
    "the share of users any of whose sessions within the days did. The rest as above."
)


def tables(blocks: Sequence[Block], about: str = "", prefix: str = "") -> Iterator[Grid]:
    """Of the combined lines: one table about returning, and one per outcome. None of those without a figure."""
    own = [Block(None, (replace(s, label=b.heading or s.label),)) for b in blocks for s in b.sources if s.ranked]
    known = [block for block in own if block.sources[0].values(f"{RETURNED}.rate")]
    days = next((seen.returns.horizon_days for s in _flat(known) for seen in s.rows if seen.returns), 0)
    made = [_quality(known, RETURNED, f"Returning within {days} days: quality of the probability", NOTE)]
    for outcome in _outcomes(known):
        path = f"returns.outcomes.{outcome}"
        told = [block for block in known if block.sources[0].values(f"{path}.rate")]
        title = f"{TITLES.get(outcome, outcome)} within {days} days: quality of the probability"
        made.append(_quality(told, path, title, OUTCOME_NOTE))
    for one in made:
        if one is not None:
            yield replace(one, title=prefix + one.title, about=about)


def bins(blocks: Sequence[Block], prefix: str = "", parts: Sequence[str] = tuple(BINS)) -> Iterator[Grid]:
    """Predicted against actual, of the combined lines of one seed."""
    ranked = [(b.heading or s.label, s.rows[0]) for b in blocks for s in b.sources if s.ranked and len(s.rows) == 1]
    told = [(label, seen.returns) for label, seen in ranked if seen.returns is not None]
    for outcome in (None, *dict.fromkeys(name for _, own in told for name in own.outcomes)):
        every = [(label, own.returned if outcome is None else own.outcomes.get(outcome)) for label, own in told]
        for part in parts:
            lines = [bin_lines(label, getattr(one.quality, part)) for label, one in every if one is not None]
            if lines:
                days = told[0][1].horizon_days
                name = "Returning" if outcome is None else TITLES.get(outcome, outcome)
                yield bins_grid(f"{prefix}{name} within {days} days", part, lines)


def _quality(blocks: Sequence[Block], path: str, title: str, note: str) -> Grid | None:
    columns = [Column("Rate", f"{path}.rate")]
    if path != RETURNED:
        columns.append(Column("Any\nsession", f"{path}.any_rate"))
    better: Better | None
    for metric, header, better in (
        ("quality.mean", "Mean p", None),
        ("quality.brier", "Brier", "lower"),
        ("base_brier", "Brier\nof the rate", None),
        ("quality.log_loss", "Log loss", "lower"),
        ("base_log_loss", "Log loss\nof the rate", None),
        ("quality.auc", "AUC", "higher"),
        ("quality.average_precision", "AP", "higher"),
        ("quality.ece", "ECE", "lower"),
        ("quality.ece_null", "ECE null", None),
    ):
        columns.append(Column(header, f"{path}.{metric}", better))
    return grid(title, columns, blocks, note, counted=f"{path}.users") if blocks else None


def _flat(blocks: Sequence[Block]) -> list[Source]:
    return [source for block in blocks for source in block.sources]


def _outcomes(blocks: Sequence[Block]) -> list[str]:
    """In the paper's order."""
    seen = {name for s in _flat(blocks) for row in s.rows if row.returns for name in row.returns.outcomes}
    return [*(name for name in TITLES if name in seen), *sorted(seen - TITLES.keys())]
