"""Pages of tables under docs/results/tables: each is what the command that it names makes of the documents."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from browsing.cli import build

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PAGES = sorted((RESULTS / "tables").glob("*.md"))


def test_there_are_some() -> None:
    assert PAGES


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_page_of_tables_is_what_its_command_prints(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text()
    named = re.search(r"`(hetlm tables [^`]+)`", text)
    assert named, f"{page.name} names no command"
    monkeypatch.chdir(RESULTS)
    _, _, *words = shlex.split(named[1])
    arguments = [str(found) for word in words for found in (sorted(Path().glob(word)) if "*" in word else [word])]
    told = CliRunner().invoke(build(), ["tables", *arguments])
    assert told.exit_code == 0, told.output
    assert text.partition("\n\n")[2].partition("\n\n")[2].strip() == told.stdout.strip(), (
        f"make it anew: cd docs/results; {named[1]}"
    )
