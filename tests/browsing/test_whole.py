"""A file is there as a whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from browsing.whole import LEFTOVER_SECONDS, whole, write_whole


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


def test_two_who_write_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    """Also in processes of the same number, as on two machines."""
    path = tmp_path / "note"
    with whole(path, durable=True, shared=True) as first:
        first.write_text("the first half")
        with whole(path, durable=True, shared=True) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        first.write_text("first")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_shared_and_durable_is_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "note", list[tuple[bool, bool]]()

    def noted(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((target == tmp_path, path.exists()))

    monkeypatch.setattr(os, "fsync", noted)
    write_whole(path, "whole", durable=True, shared=True)
    assert synced == [(False, False), (True, True)], "the file, and then its folder"


def test_what_was_left_behind_goes_with_a_later_writing(tmp_path: Path) -> None:
    path = tmp_path / "note"
    old, young, foreign = (tmp_path / name for name in ("note.0a.partial", "note.0b.partial", "notes.0c.partial"))
    for left in (old, young, foreign):
        left.write_text("half")
    now = young.stat().st_mtime
    for left in (old, foreign):
        os.utime(left, (now - 2 * LEFTOVER_SECONDS,) * 2)
    write_whole(path, "whole", durable=True, shared=True)
    assert sorted(tmp_path.iterdir()) == [path, young, foreign], "somebody may still write to the young one"


def test_what_is_shared_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "note"
    write_whole(path, "whole", durable=True, shared=True)
    with pytest.raises(TypeError), whole(path, durable=True, shared=True) as partial:
        partial.write_text("half") + "is no number"  # type: ignore[operator]
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]
