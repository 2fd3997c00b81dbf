"""Reading ends where nobody waits for it, however little a file has to say for its length; and it ends by itself."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.problems import ProblemError
from service.scoring import parquet
from service.scoring.gunzip import PIECE
from service.scoring.inputs import Limits, open_input
from service.scoring.rows import Row
from service.scoring.threads import Stop, Stopped
from tests.service.scoring.building import dataset, documents, gzipped, ndjson

BOUNDLESS = Limits(rows=10**15, bytes=10**18, row_bytes=10**6)
MEMBER = gzip.compress(b"", mtime=0)
ROW = json.dumps(documents(1)[0]).encode() + b"\n"


def problem_in(row: Row) -> str | None:
    return row.asked.kind if isinstance(row.asked, ProblemError) else None


class StopAfter(Stop):
    """Is set while the work goes on: after `steps` looks at it."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def check(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            self.set()
        super().check()


def named_member(length: int) -> bytes:
    """A gzip file whose header holds a name of so many bytes."""
    return b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * length + b"\0" + MEMBER[10:]


LONG: dict[str, Callable[[], bytes]] = {
    "blank lines": lambda: gzip.compress(b"\n" * 200_000),
    "blanks": lambda: gzip.compress((b" " * 900_000 + b"\n") * 30),
    "one byte per member": lambda: gzip.compress(b"\n", mtime=0) * 20_000,
    "empty members": lambda: MEMBER * 20_000,
    "padding": lambda: gzip.compress(ROW) + bytes(1_000_000),
    "a name": lambda: named_member(1_000_000),
    "plain blank lines": lambda: b"\n" * 100_000,
}


@pytest.mark.parametrize("what", LONG)
def test_counting_can_be_stopped_at_any_time(tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(LONG[what]())
    for steps in (0, 1, 7, 30):
        with pytest.raises(Stopped):
            open_input(path, BOUNDLESS, StopAfter(steps))


def test_a_step_is_short_whatever_there_is_to_read(tmp_path: Path) -> None:
    """Between two looks no more is read than a piece."""
    for name, contents in LONG.items():
        path = tmp_path / "file"
        path.write_bytes(contents())
        stop = StopAfter(10**9)
        with suppress(ProblemError):  # there is no row
            open_input(path, BOUNDLESS, stop)
        assert 10**9 - stop.steps >= path.stat().st_size / PIECE, name


@pytest.mark.parametrize("write", [ndjson, gzipped, dataset])
def test_rows_that_are_passed_over_can_be_stopped(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path / "file", documents(2_000))
    whole = StopAfter(10**9)
    source = open_input(path, BOUNDLESS, whole)
    counted = 10**9 - whole.steps
    whole.steps = 5
    with pytest.raises(Stopped):
        next(source.rows(1_999))
    assert counted < 10_000


def test_empty_row_groups_can_be_stopped_and_hold_nothing(tmp_path: Path) -> None:
    columns = pa.schema(
        [("user_id", pa.string()), ("sessions", pa.list_(pa.struct([("started_at", pa.timestamp("us"))])))]
    )
    path = tmp_path / "file"
    with pq.ParquetWriter(path, columns) as writer:
        for _ in range(200):
            writer.write_table(columns.empty_table())
        writer.write_table(pa.table({"user_id": ["ann"], "sessions": [[]]}, schema=columns))
    assert [row.user_id for row in open_input(path, BOUNDLESS).rows()] == ["ann"]
    with pytest.raises(Stopped):
        open_input(path, BOUNDLESS, StopAfter(100))
    stop = Stop()
    rows = open_input(path, BOUNDLESS, stop).rows()
    stop.set()
    with pytest.raises(Stopped):
        next(rows)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"\n" * 50 + ROW, "20 lines"),
        (gzip.compress(b" \n" * 50 + ROW), "20 lines"),
        ((ROW + b"\n") * 11, "20 lines"),
        (MEMBER * 30 + gzip.compress(ROW), "20 members"),
    ],
)
def test_what_is_empty_counts_too_so_that_counting_ends(tmp_path: Path, contents: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(contents)
    with pytest.raises(ProblemError) as caught:
        open_input(path, Limits(rows=20))
    assert caught.value.kind == "file-too-large"
    assert words in caught.value.detail
    assert "HETLM_BATCH_MAX_ROWS" in caught.value.detail
    assert open_input(path, Limits(rows=60)).count in (1, 11)


@pytest.mark.parametrize("blank", [b" ", b"\t", b"\r", b"\x0b"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_long_line_is_one_line_whatever_it_begins_with(
    tmp_path: Path, blank: bytes, compress: Callable[[bytes], bytes]
) -> None:
    """No row is made of a part of a line."""
    path = tmp_path / "file"
    for blanks in (1_000, 1_001, 1_002, 1_005, 1_006, 5_000):
        path.write_bytes(compress(ROW + blank * blanks + ROW + ROW))
        rows = list(open_input(path, Limits(row_bytes=1_000)).rows())
        assert [row.user_id for row in rows] == ["u0", None, "u0"]
        assert [problem_in(row) for row in rows] == [None, "row-too-large", None]
    path.write_bytes(compress(ROW + blank * (1_000 - len(ROW) + 1) + ROW.replace(b"\n", b"\r\n") + ROW))
    assert [row.user_id for row in open_input(path, Limits(row_bytes=1_000)).rows()] == ["u0"] * 3


def test_a_byte_order_mark_is_no_part_of_the_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbf" + ROW.strip().ljust(1_000) + b"\r\n" + ROW)
    for limit, problem in ((1_000, None), (999, "row-too-large")):
        rows = list(open_input(path, Limits(row_bytes=limit)).rows())
        assert [problem_in(row) for row in rows] == [problem, None]
        assert [row.user_id for row in rows] == ["u0", "u0"]


@pytest.mark.parametrize("size", [1, 2, 3, 100, 70_000])
def test_gzip_is_read_as_gzip_reads_it(tmp_path: Path, size: int) -> None:
    """In members of so many bytes, with padding in between, or cut off."""
    rows = documents(60)
    plain = "".join(json.dumps(row) + "\n" for row in rows).encode()
    members = [gzip.compress(plain[i : i + size], mtime=0) for i in range(0, len(plain), size)]
    path = tmp_path / "file"
    path.write_bytes(b"".join(members))
    assert [row.user_id for row in open_input(path, BOUNDLESS).rows()] == [row["user_id"] for row in rows]
    path.write_bytes(b"\0\0".join(members) + bytes(9))
    assert open_input(path, BOUNDLESS).count == 60
    for cut in (1, 4, 9):
        path.write_bytes(b"".join(members)[:-cut])
        with pytest.raises(ProblemError, match="broken-file"):
            open_input(path, BOUNDLESS)
    path.write_bytes(b"".join(members)[:-8] + zlib.crc32(b"other").to_bytes(4, "little") + members[-1][-4:])
    with pytest.raises(ProblemError, match="broken-file"):
        open_input(path, BOUNDLESS)


def test_a_footer_is_no_place_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dataset(tmp_path / "file", documents(40))
    monkeypatch.setattr(parquet, "FOOTER_BYTES", 1_000)
    with pytest.raises(ProblemError) as caught:
        open_input(path, BOUNDLESS)
    assert (caught.value.kind, "footer" in caught.value.detail) == ("file-too-large", True)
