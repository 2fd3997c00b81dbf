"""What a line of a table shows: one row of an evaluation, or the rows of several seeds together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import BaseModel

from training.evaluation.compare.composites import metrics
from training.evaluation.result import Decode, Generation, Interval, Returns, Row
from training.evaluation.tables.grid import NONE, Cell

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Seen:
    """An evaluation's row under one decode. What no decode touches is the row's own. `returns`: beside the combined
    row, what the evaluation says about time; its figures are at paths that begin with `returns`."""

    row: Row
    decode: Decode | None = None
    returns: Returns | None = None

    @property
    def generation(self) -> Generation:
        """Under the decode where the row has it apart, else as the row stands."""
        return self.row if self.decode is None else self.row.others.get(self.decode, self.row)

    def value(self, path: str) -> float | None:
        """The figure at `path`, such as `pages.iou` or `probabilities.cart.raw.auc`; None where there is none."""
        steps = path.split(".")
        found = _at(self.returns, steps[1:]) if steps[0] == "returns" else _at(self._owner(path), steps)
        return None if found is None else float(found)

    def interval(self, path: str) -> Interval | None:
        """Its 95 % interval over users."""
        if path.startswith("returns."):
            return None if self.returns is None else _interval_within(self.returns, path.split(".")[1:])
        return self._owner(path).intervals.get(path)

    def _owner(self, path: str) -> Generation:
        return self.generation if path.partition(".")[0] in Generation.model_fields else self.row


@dataclass(frozen=True)
class Source:
    """One line: `rows` of one or more seeds. `strong`: the combined row of a section. `ranked`: it competes for the
    best value of a column."""

    label: str
    rows: tuple[Seen, ...]
    strong: bool = False
    ranked: bool = False

    @property
    def n(self) -> int:
        """Next sessions behind it, in one seed; the mean where they differ."""
        return round(float(np.mean([seen.row.n for seen in self.rows])))

    def values(self, path: str) -> list[float]:
        """One per seed that has it."""
        return [value for seen in self.rows if (value := seen.value(path)) is not None]

    def value(self, path: str) -> float | None:
        """The mean over seeds; None unless every seed has it."""
        values = self.values(path)
        return float(np.mean(values)) if len(values) == len(self.rows) else None

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The 20 metrics, means over seeds, those that every seed has."""
        each = [metrics(seen.generation) for seen in self.rows]
        names = [name for name in each[0] if all(name in own for own in each)]
        return {name: float(np.mean([own[name] for own in each])) for name in names}


@dataclass(frozen=True, slots=True)
class Column:
    """`path`: of its figure. `divisors`: paths of counts; where all are 0 the figure was counted as 0, and is marked.
    `scale`: what it is multiplied by. `digits`: after the point; None: three, or four for figures below 0.1."""

    header: str
    path: str
    better: Better | None = None
    divisors: tuple[str, ...] = ()
    scale: float = 1.0
    digits: int | None = None


def cells(column: Column, sources: Iterable[Source]) -> list[Cell]:
    """A column's cells, one per source: the figure, its 95 % interval where it is of one seed, its standard deviation
    over seeds where of more. The best is marked, and with it whatever prints alike, but not where all do."""
    sources = list(sources)
    values = [source.value(column.path) for source in sources]
    known = [abs(value * column.scale) for value in values if value is not None]
    digits = column.digits if column.digits is not None else 4 if known and max(known) < 0.1 else 3
    texts = [NONE if value is None else f"{value * column.scale:.{digits}f}" for value in values]
    ranked = [
        (value, text)
        for source, value, text in zip(sources, values, texts, strict=True)
        if source.ranked and value is not None
    ]
    best = ""
    if column.better is not None and len({text for _, text in ranked}) > 1:
        best = (max if column.better == "higher" else min)(ranked)[1]
    return [
        Cell(
            text + "*" if value is not None and _undefined(column, source) else text,
            _note(column, source, digits),
            best=source.ranked and bool(best) and text == best,
        )
        for source, value, text in zip(sources, values, texts, strict=True)
    ]


def _undefined(column: Column, source: Source) -> bool:
    return bool(column.divisors) and not any(value for path in column.divisors for value in source.values(path))


def _note(column: Column, source: Source, digits: int) -> str:
    if len(source.rows) > 1:
        values = source.values(column.path)
        return f"± {np.std(values, ddof=1) * column.scale:.{digits}f}" if len(values) == len(source.rows) else ""
    interval = source.rows[0].interval(column.path)
    if interval is None:
        return ""
    low, high = (bound * column.scale for bound in interval)
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def _interval_within(returns: Returns, steps: list[str]) -> Interval | None:
    """Of `returned.FIELD`, or of `outcomes.NAME.FIELD`."""
    own = returns.returned if steps[0] == "returned" else returns.outcomes.get(steps[1])
    field = steps[1:] if steps[0] == "returned" else steps[2:]
    return None if own is None else own.intervals.get(".".join(field))


def _at(place: BaseModel | Mapping[str, object] | object, steps: list[str]) -> float | None:
    for step in steps:
        if place is None:
            return None
        place = place.get(step) if isinstance(place, Mapping) else getattr(place, step)
    return place if isinstance(place, int | float) else None
