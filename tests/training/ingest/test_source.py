"""What a dataset says of its files, and that finding it out holds nobody up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from training.ingest.events import EVENTS
from training.ingest.readers import LogError, LogFile
from training.ingest.source import source_beside, source_of


@contextmanager
def no_bar(title: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
    yield lambda n: None


def files(tmp_path: Path, *contents: bytes) -> list[LogFile]:
    paths = [tmp_path / f"{number}.csv" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return [LogFile(path, "delimited") for path in paths]


def test_beside_other_work_or_not_the_same_is_said(tmp_path: Path) -> None:
    contents = b"user,time\n", b"x" * (3 << 20)
    logs = files(tmp_path, *contents)
    with source_beside(logs, EVENTS) as source:
        found = source()
    assert found == source_of(logs, EVENTS, no_bar)
    assert [(file.name, file.bytes) for file in found.files] == [("0.csv", 10), ("1.csv", 3 << 20)]
    assert [file.sha256 for file in found.files] == [hashlib.sha256(content).hexdigest() for content in contents]


def test_an_empty_file_is_known_before_anything_is_read(tmp_path: Path) -> None:
    logs = files(tmp_path, b"user,time\n", b"")
    with pytest.raises(LogError, match=r"1\.csv: empty"), source_beside(logs, EVENTS):
        pytest.fail("the block began")
    with pytest.raises(LogError, match=r"1\.csv: empty"):
        source_of(logs, EVENTS, no_bar)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    logs = [LogFile(tmp_path / "gone.csv", "delimited")]
    with pytest.raises(LogError, match=r"gone\.csv: cannot be read"), source_beside(logs, EVENTS):
        pytest.fail("the block began")


def test_a_block_that_fails_does_not_wait_for_the_files_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = Event()

    class Endless:
        def __enter__(self) -> Endless:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, size: int) -> bytes:
            began.set()
            return b"x"

    logs = files(tmp_path, b"user,time\n", b"user,time\n")
    monkeypatch.setattr(Path, "open", lambda *_, **__: Endless())

    def fail() -> None:
        with source_beside(logs, EVENTS):
            assert began.wait(60)
            raise RuntimeError("the log is bad")

    with pytest.raises(RuntimeError, match="the log is bad"):
        fail()
