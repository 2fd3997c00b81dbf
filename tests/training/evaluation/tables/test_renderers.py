"""One table as Markdown, as LaTeX and on terminals of several widths."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from training.evaluation.tables import latex, markdown, terminal
from training.evaluation.tables.grid import Cell, Grid, Line, Section

NASTY = r"50% of R&D_team #1 {x} ~y^2 \cmd <b> |pipe| $5 [red]*hot* `code` — 'q' \"q\" ,, -- 日本 é ů"


def grid(columns: int = 3, label: str = "hetlm", heading: str | None = None, about: str = "") -> Grid:
    cells = tuple(Cell(f"0.{i:03}", f"[0.{i:03}, 0.900]", best=i == 1) for i in range(columns))
    plain = tuple(Cell("–") for _ in range(columns))
    return Grid(
        "Page generation (higher is better)",
        tuple(f"Acc\nCart{i}" for i in range(columns)),
        (Section(heading, (Line(label, cells), Line("Combined", plain, strong=True))),),
        "95 % of users.",
        about,
    )


def test_every_line_has_a_cell_per_column() -> None:
    with pytest.raises(ValueError, match="'x' has 1 cells for 2 columns"):
        Grid("t", ("a", "b"), (Section(None, (Line("x", (Cell("1"),)),)),))


def test_markdown() -> None:
    assert markdown.render([grid(heading="Family", about="Of shop.")]) == (
        "Of shop.\n"
        "\n"
        "**Page generation (higher is better)**\n"
        "\n"
        "| Model | Acc Cart0 | Acc Cart1 | Acc Cart2 |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| *Family* |  |  |  |\n"
        "| hetlm | 0.000 [0.000, 0.900] | **0.001** [0.001, 0.900] | 0.002 [0.002, 0.900] |\n"
        "| **Combined** | – | – | – |\n"
        "\n"
        "95 % of users.\n"
    )


def test_markdown_gives_no_meaning_to_a_name() -> None:
    (line,) = [line for line in markdown.render([grid(label=NASTY)]).splitlines() if "50%" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 5  # four cells
    assert r"\|pipe\|" in line
    assert r"\<b\>" in line
    assert r"\[red\]\*hot\*" in line
    assert r"R\&D\_team \#1" in line
    assert markdown.escape("two\nlines") == "two lines"
    assert r"0.5\* " in markdown.render([Grid("t", ("a",), (Section(None, (Line("x", (Cell("0.5*"),)),)),))])


def test_what_is_about_several_tables_is_said_once() -> None:
    grids = [grid(about="Of shop."), grid(about="Of shop."), grid(), grid(about="Of news.")]
    text = markdown.render(grids)
    assert (text.count("Of shop."), text.count("Of news.")) == (1, 1)
    shown = on_terminal(grids, 100)
    assert (shown.count("Of shop."), shown.count("Of news.")) == (1, 1)
    assert latex.render(grids).count("Of shop.") == 2  # every float stands alone


def test_latex() -> None:
    assert latex.render([grid(heading="Family", about="Of shop.")]) == (
        "% needs \\usepackage{booktabs} and \\usepackage{graphicx}\n"
        "\\begin{table*}[t]\n"
        "\\centering\n"
        "\\small\n"
        "\\begin{tabular}{lrrr}\n"
        "\\toprule\n"
        "Model & \\shortstack[r]{Acc \\\\ Cart0} & \\shortstack[r]{Acc \\\\ Cart1} & "
        "\\shortstack[r]{Acc \\\\ Cart2} \\\\\n"
        "\\midrule\n"
        "\\multicolumn{4}{l}{\\textit{Family}} \\\\\n"
        "\\quad hetlm & 0.000 & \\textbf{0.001} & 0.002 \\\\\n"
        " & {\\scriptsize {[}0.000, 0.900]} & {\\scriptsize {[}0.001, 0.900]} & {\\scriptsize {[}0.002, 0.900]} \\\\\n"
        "\\quad \\textbf{Combined} & -- & -- & -- \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\caption{Page generation (higher is better). 95 \\% of users. Of shop.}\n"
        "\\label{tab:page-generation-higher-is-better}\n"
        "\\end{table*}\n"
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50% & $5 #1 a_b {x}", r"50\% \& \$5 \#1 a\_b \{x\}"),
        ("\\cmd", r"\textbackslash{}cmd"),
        ("~ ^ < > |", r"\textasciitilde{} \textasciicircum{} \textless{} \textgreater{} \textbar{}"),
        ("[0.1] *", "{[}0.1] {*}"),  # after the end of a row both would be its arguments
        ("--- ``x''", "{-}{-}{-} {`}{`}x''"),
        ('"', "{''}"),
        ("0.5 ± 0.1 – × α β", r"0.5 $\pm$ 0.1 -- $\times$ $\alpha$ $\beta$"),
        ("café Ñandú", "café Ñandú"),
        ("ů 日 \u200b", "{[}U+016F] {[}U+65E5] {[}U+200B]"),  # pdfLaTeX would stop at these
        ("a\n b\t\x07", "a b {[}U+0007]"),
    ],
)
def test_latex_gives_no_meaning_to_a_name(text: str, escaped: str) -> None:
    assert latex.escape(text) == escaped


@pytest.mark.parametrize("columns", [2, 9])
def test_latex_is_balanced_whatever_the_names(columns: int) -> None:
    """There is no LaTeX to compile it here: environments and braces are closed in order, every row has as many cells as
    the table has columns, and nothing that LaTeX reads as a command is left from a name."""
    text = latex.render([grid(columns, label=NASTY, heading=NASTY), grid(columns)])
    assert text.startswith("% needs ")
    body = text.partition("\n")[2]
    bare = body.replace(r"\{", "").replace(r"\}", "")
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    open_: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", body):
        if kind == "begin":
            open_.append(name)
        else:
            assert open_.pop() == name
    assert open_ == []
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 * (1 + 1 + 1 + 1) + 1  # header, figures, intervals, combined; and the heading
    for row in rows:
        cells = len(re.findall(r"(?<!\\)&", row)) + 1
        assert cells == columns + 1 or (cells == 1 and row.startswith(f"\\multicolumn{{{columns + 1}}}"))
    commands = set(re.findall(r"\\([a-zA-Z]+)", body))
    assert commands <= {
        "begin", "end", "centering", "small", "resizebox", "textwidth", "toprule", "midrule", "bottomrule",
        "shortstack", "multicolumn", "textit", "textbf", "quad", "scriptsize", "caption", "label", "textbackslash",
        "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar",
    }  # fmt: skip
    assert not re.search(r"(?<!\\)[#$%^~]", body.replace("{!}{%", ""))
    assert all(character.isascii() or character in "é" for character in body)
    assert ("\\resizebox{\\textwidth}{!}{%" in body) == (columns > latex.WIDE)


def on_terminal(grids: list[Grid], width: int, is_terminal: bool = True) -> str:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=is_terminal, color_system=None, highlight=False)
    terminal.show(grids, console)
    return screen.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 139, 240])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(width: int) -> None:
    wide = grid(12, label="a name that is a good deal longer than others")
    text = on_terminal([wide], width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for cell in wide.sections[0].lines[0].cells:
        assert text.count(cell.text) >= 1
        assert text.count(cell.note) == 1
    parts = len(terminal.fitting(wide, width))
    assert text.count("Combined") == parts
    assert text.count("continued") == parts - 1
    assert (parts == 1) == (width == 240)


def test_a_file_is_as_wide_as_a_wide_terminal() -> None:
    assert len(terminal.fitting(grid(6), terminal.WIDTH)) == 1
    assert "continued" not in on_terminal([grid(6)], 40, is_terminal=False)


def test_a_name_is_no_markup_on_a_terminal() -> None:
    text = on_terminal([grid(label="[red]bags[/]", heading="[bold]x")], 100)
    assert "[red]bags[/]" in text
    assert "[bold]x" in text
