"""The regression guard: two runs' ratios. Seconds differ from machine to machine and from day to day; how two programs
compare, measured in alternation, hardly does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.bench.document import Conditions, Figure, Report, Study
from loadtest.bench.errors import BenchError

MARGIN = 0.05
Kind = Literal["worse", "better", "same", "missing"]


@dataclass(frozen=True, slots=True)
class Change:
    """`kind`: worse or better where the two runs' 95 % intervals are further apart than the margin."""

    figure: str
    old: Figure
    new: Figure | None
    kind: Kind


def compare(old: Report | Study, new: Report | Study, margin: float = MARGIN) -> list[Change]:
    """Every ratio of the older run. Raises `BenchError` for runs of different kinds or under different conditions."""
    if different := _different(old, new):
        raise BenchError(
            f"the runs differ in {', '.join(different)}: their ratios cannot be compared; repeat the older command on "
            f"the newer code: {old.command}"
        )
    found = {figure.key: figure for figure in new.figures}
    return [
        Change(figure.figure, figure, found.get(figure.key), _kind(figure, found.get(figure.key), margin))
        for figure in old.figures
        if figure.unit == "ratio" and figure.value is not None
    ]


def _different(old: Report | Study, new: Report | Study) -> list[str]:
    """In what the two are no pair."""
    if isinstance(old, Report) and isinstance(new, Report):
        return _of_peers(old.conditions, new.conditions)
    if isinstance(old, Report) or isinstance(new, Report) or old.kind != new.kind:
        raise BenchError(
            f"the runs measured different things ({old.kind} and {new.kind}): two of one command are compared"
        )
    left, right = old.conditions, new.conditions
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def _of_peers(old: Conditions, new: Conditions) -> list[str]:
    """Subjects are compared where both runs have them, and without their weights' identity."""
    left, right = old.model_dump(exclude={"subjects"}), new.model_dump(exclude={"subjects"})
    names = [name for name in left if left[name] != right[name]]
    for name in old.subjects.keys() & new.subjects.keys():
        a, b = old.subjects[name], new.subjects[name]
        if (a.clusters, a.parameters) != (b.clusters, b.parameters):
            names.append(f"the predictors of {name}")
    return names


def _kind(old: Figure, new: Figure | None, margin: float) -> Kind:
    before, after = old.value, new.value if new is not None else None
    if before is None or after is None:
        return "missing"
    fell = after.high < before.low * (1 - margin)
    rose = after.low > before.high * (1 + margin)
    if old.better == "lower":
        fell, rose = rose, fell
    return "worse" if fell else "better" if rose else "same"


def table(changes: Sequence[Change]) -> str:
    """In Markdown."""
    lines = ["| ratio | before | now | |", "|---|---|---|---|"]
    for change in changes:
        now = change.new.value if change.new is not None else None
        word = f"**{change.kind}**" if change.kind == "worse" else change.kind
        lines.append(f"| {change.figure} | {change.old.value} | {now or '-'} | {word} |")
    return "\n".join(lines)
