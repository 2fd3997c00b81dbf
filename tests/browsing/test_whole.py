"""A file is there as a whole, or not at all."""

from __future__ import annotations

import os
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


def test_what_is_durable_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "note", list[str]()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(f"{Path(os.readlink(f'/proc/self/fd/{descriptor}')).name} {path.exists()}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    with whole(path, durable=True) as partial:
        partial.write_text("whole")
    assert synced == ["note.partial False", f"{tmp_path.name} True"]
    assert path.read_text() == "whole"


def test_what_a_crash_left_is_overwritten_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "note"
    (tmp_path / "note.partial").write_text("half, and longer than the whole")
    with whole(path, durable=True) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_durable_makes_no_folder_and_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole(tmp_path / "gone" / "note", durable=True) as partial:
        partial.write_text("whole")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError), whole(tmp_path / "note", durable=True) as partial:
        partial.write_text("half") + "is no number"  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


def test_an_error_before_anything_was_written(tmp_path: Path) -> None:
    with pytest.raises(KeyError), whole(tmp_path / "note.txt"):
        raise KeyError
    assert not list(tmp_path.iterdir())
