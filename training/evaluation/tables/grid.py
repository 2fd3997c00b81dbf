"""A table as it is meant, before it becomes lines on a screen, Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

NONE = "–"
"""What stands where there is no figure."""


@dataclass(frozen=True, slots=True)
class Cell:
    """`note`: its interval, or its spread over seeds, set smaller. `best`: of its column."""

    text: str
    note: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """`strong`: it stands for all others of its section (the combined row)."""

    label: str
    cells: tuple[Cell, ...]
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Lines that belong together, under a heading where there is one."""

    heading: str | None
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """`columns`: headers besides the first one, which is `first`; a line break in one parts its two levels. `note`:
    what the reader has to know. `about`: what he has to know of several tables, said once where they stand together.
    Every line has a cell per column."""

    title: str
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    note: str = ""
    about: str = ""
    first: str = "Model"

    def __post_init__(self) -> None:
        """Raises `ValueError` for a line of another length."""
        for section in self.sections:
            for line in section.lines:
                if len(line.cells) != len(self.columns):
                    raise ValueError(f"{line.label!r} has {len(line.cells)} cells for {len(self.columns)} columns")

    def part(self, places: Sequence[int]) -> Grid:
        """The same with these columns alone."""
        return replace(
            self,
            columns=tuple(self.columns[i] for i in places),
            sections=tuple(
                replace(
                    section,
                    lines=tuple(replace(line, cells=tuple(line.cells[i] for i in places)) for line in section.lines),
                )
                for section in self.sections
            ),
        )
