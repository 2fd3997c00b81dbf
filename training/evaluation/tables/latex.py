"""Tables as LaTeX in the paper's manner: booktabs, the best value bold.

What is written compiles with pdfLaTeX and the packages `booktabs` and `graphicx`. Page names become cluster names, so a
label may hold anything: what LaTeX gives a meaning is escaped, and what its standard fonts lack is named by its code.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from training.evaluation.tables.grid import Cell, Grid, Line

PREAMBLE = "% needs \\usepackage{booktabs} and \\usepackage{graphicx}\n"
WIDE = 7
"""A table with more columns is scaled to the width of the text."""

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    "`": "{`}",
    # After the end of a row these two would be read as its arguments.
    "[": "{[}",
    "*": "{*}",
    "-": "{-}",  # two of them are a dash
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
} | {mark: f"\\{mark}" for mark in "&%$#_{}"}


def render(grids: Iterable[Grid]) -> str:
    """One floating table after the other, captioned by its title and labelled by it."""
    return PREAMBLE + "\n".join(_grid(grid) for grid in grids)


def escape(text: str) -> str:
    """`text` on one line, without a meaning to LaTeX, in ASCII and letters that pdfLaTeX knows."""
    return "".join(_character(character) for character in " ".join(text.split()))


def _character(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    if " " <= character <= "~":
        return character
    if _is_latin(character):
        return character
    return f"{{[}}U+{ord(character):04X}]"


def _is_latin(character: str) -> bool:
    """An accented letter of ISO 8859-1, which every LaTeX since 2018 sets from UTF-8."""
    base = unicodedata.normalize("NFD", character)[0]
    return "\u00c0" <= character <= "\u00ff" and base.isascii() and base.isalpha()


def _grid(grid: Grid) -> str:
    width = len(grid.columns) + 1
    wide = len(grid.columns) > WIDE
    slug = re.sub(r"[^a-z0-9]+", "-", grid.title.lower()).strip("-")
    lines = [r"\begin{table*}[t]", r"\centering", r"\small"]
    if wide:
        lines.append(r"\resizebox{\textwidth}{!}{%")
    lines += [f"\\begin{{tabular}}{{l{'r' * len(grid.columns)}}}", r"\toprule"]
    lines.append(_row([_header(header) for header in (grid.first, *grid.columns)]))
    for section in grid.sections:
        lines.append(r"\midrule")
        if section.heading is not None:
            lines.append(f"\\multicolumn{{{width}}}{{l}}{{\\textit{{{escape(section.heading)}}}}} \\\\")
        for line in section.lines:
            lines += _line(line, indent=section.heading is not None)
    lines += [r"\bottomrule", r"\end{tabular}"]
    if wide:
        lines.append("}")
    caption = " ".join(part for part in (f"{grid.title}.", grid.note, grid.about) if part)
    lines += [f"\\caption{{{escape(caption)}}}", f"\\label{{tab:{slug}}}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _header(header: str) -> str:
    levels = [escape(level) for level in header.split("\n")]
    return levels[0] if len(levels) == 1 else r"\shortstack[r]{" + r" \\ ".join(levels) + "}"


def _line(line: Line, indent: bool) -> list[str]:
    """The figures, and below them their notes where there are any."""
    label = escape(line.label)
    first = f"\\textbf{{{label}}}" if line.strong else label
    rows = [_row([f"\\quad {first}" if indent else first, *map(_figure, line.cells)])]
    if any(cell.note for cell in line.cells):
        rows.append(_row(["", *[f"{{\\scriptsize {escape(cell.note)}}}" if cell.note else "" for cell in line.cells]]))
    return rows


def _figure(cell: Cell) -> str:
    return f"\\textbf{{{escape(cell.text)}}}" if cell.best else escape(cell.text)


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
