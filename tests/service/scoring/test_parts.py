"""Finished chunks: there whole or not at all, each row once, and a full disk leaves nothing behind."""

from __future__ import annotations

import errno
import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
import pytest

from service.problems import ProblemError
from service.schemas import PredictRequest
from service.scoring.parts import Parts, disk_full
from service.scoring.results import Record, Tally, record_of, record_of_problem, schema
from service.scoring.rows import Row, row_of_json
from service.scoring.threads import Stop, Stopped
from tests.service.scoring.building import OUTCOMES, VERSION, answered, documents
from tests.service.scoring.test_stopping import StopAfter

COLUMNS = schema(OUTCOMES)


def records(first: int, count: int) -> list[Record]:
    """Every fifth row has a problem."""
    made = []
    for number, document in enumerate(documents(first + count)[first:], first):
        row = row_of_json(number, json.dumps(document).encode())
        assert isinstance(row.asked, PredictRequest)
        if number % 5 == 4:
            made.append(record_of_problem(row, ProblemError("no-history", "none"), f"r.{number}"))
        else:
            made.append(record_of(row, answered(row.asked, "r")))
    return made


def parts(root: Path, rows: int = 25, chunk: int = 10, version: str = VERSION) -> Parts:
    return Parts(root / "parts", COLUMNS, chunk, rows, version)


def filled(root: Path) -> Parts:
    made = parts(root)
    assert made.resume() == Tally()
    for chunk in range(made.chunks):
        count = min(10, 25 - 10 * chunk)
        assert made.write(chunk, records(10 * chunk, count)) == Tally(count, count // 5, 0)
    return made


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may become larger: how a full disk looks to a writer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_what_is_finished_is_found_again(tmp_path: Path) -> None:
    made = filled(tmp_path)
    assert parts(tmp_path).resume() == Tally(25, 5, 0)
    names = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert names == ["00000000.parquet", "00000001.parquet", "00000002.parquet"]
    assert made.chunks == 3


@pytest.mark.parametrize("harm", ["missing", "cut", "empty", "other rows", "other columns", "half written"])
def test_only_whole_chunks_from_the_first_on_count(tmp_path: Path, harm: str) -> None:
    filled(tmp_path)
    second = tmp_path / "parts" / "00000001.parquet"
    match harm:
        case "missing":
            second.unlink()
        case "cut":
            second.write_bytes(second.read_bytes()[:-30])
        case "empty":
            second.write_bytes(b"")
        case "other rows":
            pq.write_table(pq.read_table(second).slice(0, 9), second)
        case "other columns":
            pq.write_table(pq.read_table(second).drop_columns(["outcome_cart"]), second)
        case _:
            second.rename(second.with_name(second.name + ".partial"))
    assert parts(tmp_path).resume() == Tally(10, 2, 0)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["00000000.parquet"]


def test_chunks_of_another_size_begin_again(tmp_path: Path) -> None:
    filled(tmp_path)
    assert parts(tmp_path, chunk=5).resume() == Tally()
    assert list((tmp_path / "parts").iterdir()) == []


def test_chunks_of_another_version_do_not_count(tmp_path: Path) -> None:
    made = filled(tmp_path)
    first, *_ = sorted((tmp_path / "parts").iterdir())
    other = parts(tmp_path, version="w" * 64)
    with pytest.raises(ProblemError, match="internal"):
        other.assemble(tmp_path / "out", "parquet")
    assert not (tmp_path / "out").exists()
    kept = first.read_bytes()
    assert other.resume() == Tally()
    assert list((tmp_path / "parts").iterdir()) == []
    first.write_bytes(kept)
    assert made.resume() == Tally(10, 2, 0)


@pytest.mark.parametrize("form", ["parquet", "ndjson"])
def test_putting_together_can_be_stopped_and_leaves_nothing(tmp_path: Path, form: Literal["parquet", "ndjson"]) -> None:
    made = filled(tmp_path)
    for steps in range(3):
        with pytest.raises(Stopped):
            made.assemble(tmp_path / "out", form, StopAfter(steps))
        assert [path.name for path in tmp_path.iterdir()] == ["parts"]
        with pytest.raises(Stopped):
            made.resume(StopAfter(steps))
    assert made.resume(Stop()) == Tally(25, 5, 0)


@pytest.mark.parametrize("form", ["parquet", "ndjson"])
def test_the_result_holds_every_row_once_in_order(tmp_path: Path, form: Literal["parquet", "ndjson"]) -> None:
    made = filled(tmp_path)
    made.assemble(tmp_path / "out", form)
    if form == "parquet":
        table = pq.read_table(tmp_path / "out")
        assert table.schema.equals(COLUMNS, check_metadata=False)
        rows = table.to_pylist()
        problems = [json.loads(row["problem"]) if row["problem"] else None for row in rows]
    else:
        rows = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        problems = [row["problem"] for row in rows]
    assert [row["row"] for row in rows] == list(range(25))
    assert [row["user_id"] for row in rows] == [f"u{i}" for i in range(25)]
    wanted = records(0, 25)
    for row, problem, record in zip(rows, problems, wanted, strict=True):
        assert {name: value for name, value in row.items() if value is not None and name != "problem"} == {
            name: value for name, value in record.items() if value is not None and name != "problem"
        }
        assert (problem is None) == (row["row"] % 5 != 4)
        assert problem is None or (problem["status"], problem["request_id"]) == (422, f"r.{row['row']}")


def test_a_chunk_that_was_exchanged_is_not_taken_for_another(tmp_path: Path) -> None:
    made = filled(tmp_path)
    first, second = (tmp_path / "parts" / f"0000000{i}.parquet" for i in range(2))
    second.write_bytes(first.read_bytes())
    with pytest.raises(ProblemError, match="internal"):
        made.assemble(tmp_path / "out", "parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    made = filled(tmp_path)
    for form in ("parquet", "ndjson"):
        with largest_file(3_000), pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is what matters
            made.assemble(tmp_path / "out", form)
        assert disk_full(caught.value)
    (tmp_path / "parts" / "00000001.parquet").unlink()
    with largest_file(3_000), pytest.raises(OSError) as caught:  # noqa: PT011
        made.write(1, records(10, 10))
    assert disk_full(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]
    assert made.resume() == Tally(10, 2, 0)


def test_what_says_that_the_disk_is_full() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        assert disk_full(OSError(number, "no room"))
    assert not disk_full(OSError(errno.EACCES, "no"))
    wrapped = RuntimeError("written badly")
    wrapped.__cause__ = OSError(errno.ENOSPC, "no room")
    assert disk_full(wrapped)
    assert not disk_full(RuntimeError("else"))


def test_a_row_of_a_wrong_document_has_what_can_be_told() -> None:
    row = Row(3, "u", ProblemError("no-history", "none"))
    assert record_of_problem(row, ProblemError("no-history", "none"), "r.3")["user_id"] == "u"
