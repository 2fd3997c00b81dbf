"""Table 18: inference time per configuration."""

from __future__ import annotations

from collections.abc import Sequence

from training.evaluation.tables.grid import NONE, Cell, Grid, Line, Section
from training.evaluation.timing.result import EXTRAPOLATED, Timed, Timing

COLUMNS = (
    "Models",
    "Parameters\nof one",
    "Parameters\nin total",
    "Seconds",
    f"Seconds per {EXTRAPOLATED:,}\n(extrapolated)",
    "Ratio to\nthe first",
    "Tokens\ngenerated",
    "Embed and\nselect (s)",
)


def grid(timing: Timing, prefix: str = "") -> Grid:
    """A line per configuration: single models, then bundles, as in the paper."""
    groups = {"Single model": "single", "Bundle": "bundle"}
    parts = {title: [own for own in timing.configurations if own.kind == kind] for title, kind in groups.items()}
    machine = timing.machine
    return Grid(
        f"{prefix}Inference time",
        COLUMNS,
        tuple(Section(title, tuple(_line(own) for own in found)) for title, found in parts.items() if found),
        f"{timing.users:,} next sessions of {timing.dataset} ({timing.split}), {timing.samples} paths in each of "
        f"{timing.sets} sets and a greedy one, of at most {timing.max_steps} pages, {timing.concurrency} users at once "
        f"on the embedded engine, models loaded; means of {timing.rounds} rounds in which all took turns, in brackets "
        f"the least and the most. {machine.cpu}, {machine.threads} of {machine.cores} cores used.",
    )


def _line(own: Timed) -> Line:
    label = own.name if own.kind == "single" else f"{own.name} ({own.method}, {_clusters(own.models)})"
    return Line(
        label,
        (
            Cell(f"{own.models}"),
            Cell(f"{own.parameters:,}"),
            Cell(f"{own.total_parameters:,}"),
            _spread(own.seconds, 2),
            Cell(f"{own.extrapolated_seconds:,.1f}"),
            _spread(own.ratios, 2),
            Cell(f"{own.tokens:,}"),
            Cell(NONE if own.route_seconds is None else f"{own.route_seconds:.2f}"),
        ),
    )


def _clusters(models: int) -> str:
    return "1 cluster" if models == 1 else f"{models} clusters"


def _spread(values: Sequence[float], digits: int) -> Cell:
    mean = sum(values) / len(values)
    note = f"[{min(values):.{digits}f}, {max(values):.{digits}f}]" if min(values) < max(values) else ""
    return Cell(f"{mean:.{digits}f}", note)
