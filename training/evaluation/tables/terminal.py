"""Tables on a terminal, of whatever width it has."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from training.evaluation.tables.grid import Cell, Grid

WIDTH = 140
"""Columns of text where nothing says how many there are: in a file or a pipe."""
LABEL = 28
"""At most so many columns for a line's label; a longer one is folded."""


def show(grids: Iterable[Grid], console: Console) -> None:
    """Print every table; what is about several stands above the first of them. One that is wider than the terminal is
    continued below, with its labels repeated."""
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    about = ""
    for grid in grids:
        if grid.about and grid.about != about:
            console.print(Text(grid.about, style="dim"))
            console.print()
        about = grid.about or about
        for place, part in enumerate(fitting(grid, console.width)):
            console.print(Text(f"{grid.title}, continued" if place else grid.title, style="italic"))
            console.print(_table(part))
        if grid.note:
            console.print(Text(grid.note, style="dim"))
        console.print()


def fitting(grid: Grid, width: int) -> list[Grid]:
    """The grid in parts of at most `width` columns of text; a part has one column of figures at least."""
    labels = [label for part in grid.sections for label in (part.heading or "", *(line.label for line in part.lines))]
    room = width - min(LABEL, max(map(len, [grid.first, *labels])))
    parts: list[list[int]] = [[]]
    taken = 0
    for place, header in enumerate(grid.columns):
        cells = [line.cells[place] for section in grid.sections for line in section.lines]
        texts = [*header.split("\n"), *(text for cell in cells for text in (cell.text, cell.note))]
        need = max(map(len, texts)) + 2
        if parts[-1] and taken + need > room:
            parts.append([])
            taken = 0
        parts[-1].append(place)
        taken += need
    return [grid.part(places) for places in parts]


def _table(grid: Grid) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    table.add_column(grid.first, max_width=LABEL, overflow="fold")
    for column in grid.columns:
        table.add_column(Text(column), justify="right", no_wrap=True)
    for section in grid.sections:
        table.add_section()
        if section.heading is not None:
            table.add_row(Text(section.heading, style="italic"))
        for line in section.lines:
            style = "bold" if line.strong else ""
            table.add_row(Text(line.label, style=style), *(_text(cell, line.strong) for cell in line.cells))
    return table


def _text(cell: Cell, strong: bool) -> Text:
    text = Text(cell.text, style="bold" if cell.best or strong else "")
    return text.append(f"\n{cell.note}", style="not bold dim") if cell.note else text
