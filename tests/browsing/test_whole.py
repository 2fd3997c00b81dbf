"""A file is there as a whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from browsing.whole import whole, write_whole


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "note.txt"
    with whole(path) as partial:
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_whole(path, "ä")
    with pytest.raises(TypeError), whole(path) as partial:
        partial.write_text("broken") + "is no number"  # type: ignore[operator]
    assert path.read_bytes() == "ä".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_before_anything_was_written(tmp_path: Path) -> None:
    with pytest.raises(KeyError), whole(tmp_path / "note.txt"):
        raise KeyError
    assert not list(tmp_path.iterdir())
