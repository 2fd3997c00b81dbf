"""Tables as GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from training.evaluation.tables.grid import Cell, Grid

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")
_IN_FIGURES = re.compile(r"([*|])")


def render(grids: Iterable[Grid]) -> str:
    """One table after the other, each under its title; what is about several stands above the first of them."""
    parts, about = [], ""
    for grid in grids:
        if grid.about and grid.about != about:
            parts.append(escape(grid.about) + "\n")
        about = grid.about or about
        parts.append(_grid(grid))
    return "\n".join(parts)


def escape(text: str) -> str:
    """`text` on one line, without a meaning to Markdown."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _grid(grid: Grid) -> str:
    lines = [f"**{escape(grid.title)}**", ""]
    lines.append(_row([escape(column) for column in (grid.first, *grid.columns)]))
    lines.append("| --- |" + " ---: |" * len(grid.columns))
    for section in grid.sections:
        if section.heading is not None:
            lines.append(_row([f"*{escape(section.heading)}*", *[""] * len(grid.columns)]))
        for line in section.lines:
            label = escape(line.label)
            lines.append(_row([f"**{label}**" if line.strong else label, *map(_cell, line.cells)]))
    if grid.note:
        lines += ["", escape(grid.note)]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    # Figures are not anybody's names: of them only these two could be read as something else.
    text, note = (_IN_FIGURES.sub(r"\\\1", part) for part in (cell.text, cell.note))
    return " ".join(part for part in (f"**{text}**" if cell.best else text, note) if part)
