"""The README's pictures are there and small, and the command that takes them does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.docs.pictures import LARGEST, PICTURES, take
from tests.docs.reader import Reader
from tests.docs.world import World

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_the_readme_shows_the_pictures_that_there_are_and_they_are_small() -> None:
    shown = {ROOT / name for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text())}
    assert shown == {PICTURES / "console.png", PICTURES / "report.png"} == set(PICTURES.iterdir())
    for picture in shown:
        assert picture.read_bytes().startswith(SIGNATURE)
        assert picture.stat().st_size < LARGEST


@pytest.mark.system
def test_the_pictures_can_be_taken(world: World, tmp_path: Path) -> None:
    reader = Reader(world, "docs/results/globo.md", world.folder("pictures"))
    try:
        taken = take(reader.url(), reader.folder / "bundle" / "report.html", tmp_path / "pictures")
    finally:
        reader.close()
    assert [picture.name for picture in taken] == ["console.png", "report.png"]
    for picture in taken:
        assert picture.read_bytes().startswith(SIGNATURE)
        assert 10_000 < picture.stat().st_size < LARGEST
