"""Input files: every form says the same, limits are kept, and nothing of a file is lost or quoted."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.problems import ProblemError
from service.schemas import MAX_PAGES, PredictRequest
from service.scoring.inputs import Limits, open_input
from service.scoring.parquet import sizes
from service.scoring.rows import Row, row_of_json, user_in
from service.scoring.threads import Stop, Stopped
from tests.service.scoring.building import BAD, dataset, documents, gzipped, ndjson, nested

Write = Callable[[Path, Sequence[dict[str, Any]]], Path]
LIMITS = Limits()
FORMS: list[tuple[Write, str]] = [(ndjson, "ndjson"), (gzipped, "ndjson"), (dataset, "parquet"), (nested, "parquet")]


def read(path: Path, start: int = 0, limits: Limits = LIMITS) -> list[Row]:
    return list(open_input(path, limits).rows(start))


def problem_of(path: Path, limits: Limits = LIMITS) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        list(open_input(path, limits).rows())
    return caught.value


def request_of(row: Row) -> PredictRequest:
    assert isinstance(row.asked, PredictRequest), row
    return row.asked


@pytest.mark.parametrize(("write", "form"), FORMS)
def test_every_form_says_the_same_and_its_name_says_nothing(tmp_path: Path, write: Write, form: str) -> None:
    rows = documents(40)
    path = write(tmp_path / "file.csv", rows)
    source = open_input(path, LIMITS)
    assert (source.format, source.count) == (form, 40)
    found = list(source.rows())
    assert [row.number for row in found] == list(range(40))
    assert [row.user_id for row in found] == [row["user_id"] for row in rows]
    wanted = [PredictRequest.model_validate_json(json.dumps(row)) for row in rows]
    assert [request_of(row).model_dump() for row in found] == [request.model_dump() for request in wanted]


@pytest.mark.parametrize(("write", "form"), FORMS)
@pytest.mark.parametrize("start", [0, 1, 7, 20, 39, 40])
def test_reading_goes_on_anywhere(tmp_path: Path, write: Write, form: str, start: int) -> None:
    path = write(tmp_path / "file", documents(40))
    assert [row.number for row in read(path, start)] == list(range(start, 40))


def test_empty_lines_and_a_byte_order_mark_are_no_rows(tmp_path: Path) -> None:
    one, two = (json.dumps(row) for row in documents(2))
    path = tmp_path / "file"
    path.write_bytes(f"\ufeff{one}\r\n\n  \n{two}".encode())
    assert [row.user_id for row in read(path)] == ["u0", "u1"]


def test_a_wrong_row_is_a_problem_at_its_place_and_keeps_its_user(tmp_path: Path) -> None:
    good = documents(2)
    path = ndjson(tmp_path / "file", [good[0], BAD, good[1]])
    path.write_bytes(
        path.read_bytes() + b'{"user_id": "zq-cut", "ses\n\xff\xfe\n' + b'[1, 2]\n{"sessions": 1, "x": 2}\n'
    )
    found = read(path)
    kinds = [row.asked.kind if isinstance(row.asked, ProblemError) else "" for row in found]
    assert kinds == ["", "invalid-request", "", "broken-json", "broken-json", "invalid-request", "invalid-request"]
    assert [row.user_id for row in found] == ["u0", "bad", "u1", "zq-cut", None, None, None]
    assert not any("zq-cut" in row.asked.detail for row in found if isinstance(row.asked, ProblemError))


def test_a_row_of_a_dataset_that_is_no_history_says_so(tmp_path: Path) -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    table = pa.table(
        {
            "user_id": [1, 2, 3, 4, 5],
            "history": [[["/"]], None, [["/"], ["/bags"]], [["/"], ["/bags"]], [["/", None]]],
            "history_started_at": pa.array(
                [[at], [at], [at], [at, datetime(2026, 10, 1, tzinfo=UTC)], [at]], pa.list_(pa.timestamp("ms", "UTC"))
            ),
        }
    )
    pq.write_table(table, tmp_path / "file")
    found = read(tmp_path / "file")
    assert [row.user_id for row in found] == ["1", "2", "3", "4", "5"]
    pointers = [row.asked.errors[0].pointer if isinstance(row.asked, ProblemError) else "" for row in found]
    assert pointers == ["", "/history", "/history_started_at", "/sessions/1/started_at", "/sessions/0/pages/1"]


def test_of_a_long_history_the_newest_sessions_are_read(tmp_path: Path) -> None:
    sessions = [{"started_at": f"2026-11-01T10:{i // 60:02}:{i % 60:02}Z", "pages": ["/", "/bags"]} for i in range(300)]
    path = dataset(tmp_path / "file", [{"user_id": "u", "sessions": sessions}])
    (row,) = read(path)
    kept = request_of(row).sessions or []
    assert (len(kept), row.dropped) == (200, 100)
    assert kept[-1].started_at == datetime(2026, 11, 1, 10, 4, 59, tzinfo=UTC)
    long = [{"started_at": f"2026-11-{1 + i:02}T10:00:00Z", "pages": ["/bags"] * 700} for i in range(12)]
    (row,) = read(dataset(tmp_path / "long", [{"user_id": "u", "sessions": long}]))
    kept = request_of(row).sessions or []
    assert (len(kept), row.dropped) == (10, 2)
    assert sum(len(session.pages) for session in kept) == MAX_PAGES


@pytest.mark.parametrize(
    ("write", "limits", "words"),
    [
        (ndjson, Limits(rows=3), "HETLM_BATCH_MAX_ROWS"),
        (dataset, Limits(rows=3), "HETLM_BATCH_MAX_ROWS"),
        (gzipped, Limits(bytes=200), "HETLM_BATCH_MAX_BYTES"),
        (dataset, Limits(bytes=200), "HETLM_BATCH_MAX_BYTES"),
        (dataset, Limits(row_group_bytes=200), "Row group 0 .* HETLM_BATCH_MAX_ROW_GROUP_BYTES"),
    ],
)
def test_a_file_beyond_a_limit_is_refused_before_any_work(
    tmp_path: Path, write: Write, limits: Limits, words: str
) -> None:
    path = write(tmp_path / "file", documents(4))
    with pytest.raises(ProblemError) as caught:
        open_input(path, limits)
    assert caught.value.kind == "file-too-large"
    words, _, variable = words.rpartition(" .* ")
    assert variable in caught.value.detail
    assert not words or caught.value.detail.startswith(words[:4])


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "no row"),
        (b"\n \n", "no row"),
        (b"PAR1 and no more", "damaged"),
        (gzip.compress(b'{"sessions": []}\n' * 200)[:-40], "damaged or ends early"),
        (gzip.compress(b"{}\n" * 200) + b"more", "damaged"),
        (gzip.compress(b"PAR1 and so on"), "gzipped Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, contents: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(contents)
    problem = problem_of(path)
    assert problem.kind == "broken-file"
    assert words in problem.detail


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"user": ["a"]}, "neither the columns"),
        ({"history": [[["/"]]]}, "no column history_started_at"),
        ({"history": [["/"]], "history_started_at": [[datetime(2026, 1, 1)]]}, "list<list<string>>"),
        ({"history": [[["/"]]], "history_started_at": [["2026"]]}, "list<timestamp>"),
        ({"sessions": [b"bytes"]}, "type that is not read"),
        ({"sessions": pa.array([], pa.list_(pa.struct([("started_at", pa.timestamp("us"))])))}, "no row"),
    ],
)
def test_a_table_of_another_shape_is_refused(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "file")
    assert words in problem_of(tmp_path / "file").detail


def test_damage_in_the_middle_is_found_where_it_is(tmp_path: Path) -> None:
    path = dataset(tmp_path / "file", documents(400, seed=3), row_group=100)
    contents = bytearray(path.read_bytes())
    with pq.ParquetFile(path) as file:
        place = file.metadata.row_group(2).column(1).data_page_offset
    contents[place : place + 40] = b"\xff" * 40
    path.write_bytes(contents)
    rows = open_input(path, LIMITS).rows()
    found = [row.number for row in islice(rows, 200)]
    assert found == list(range(200))
    with pytest.raises(ProblemError, match="broken-file"):
        list(rows)


def test_times_that_no_calendar_has_and_broken_text_are_problems_of_their_rows(tmp_path: Path) -> None:
    history = pa.array([[["/"]], [["/"]]], pa.list_(pa.list_(pa.string())))
    times = pa.array([[0], [2**62]], pa.list_(pa.int64())).cast(pa.list_(pa.timestamp("us", "UTC")))
    pq.write_table(pa.table({"history": history, "history_started_at": times}), tmp_path / "times")
    assert [isinstance(row.asked, ProblemError) for row in read(tmp_path / "times")] == [True, True]
    text = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"\xff\xfea")]
    )
    sessions = pa.array(
        [[], []], pa.list_(pa.struct([("started_at", pa.timestamp("us")), ("pages", pa.list_(pa.string()))]))
    )
    pq.write_table(pa.table({"user_id": text, "sessions": sessions}), tmp_path / "text")
    found = read(tmp_path / "text")
    assert [isinstance(row.asked, ProblemError) for row in found] == [True, False]
    wrong = {"user_id": ["ann", "bob"], "history": pa.array([[["/"]], [["/"]]]), "history_started_at": times}
    pq.write_table(pa.table(wrong), tmp_path / "users")
    found = read(tmp_path / "users")
    assert [(row.user_id, isinstance(row.asked, ProblemError)) for row in found] == [("ann", True), ("bob", True)]


def bomb(path: Path, rows: int, pages: int, length: int) -> Path:
    """A column of one long string, `rows * pages` times: small in the file, huge once it is unfolded."""
    leaf = pa.DictionaryArray.from_arrays(pa.array([0] * (rows * pages), pa.int32()), pa.array(["x" * length]))
    sessions = pa.ListArray.from_arrays(pa.array(range(0, rows * pages + 1, pages), pa.int32()), leaf)
    history = pa.ListArray.from_arrays(pa.array(range(rows + 1), pa.int32()), sessions)
    times = pa.array([[datetime(2026, 1, 1)]] * rows)
    pq.write_table(pa.table({"history": history, "history_started_at": times}), path)
    return path


def test_a_small_file_does_not_unfold_into_a_large_memory(tmp_path: Path) -> None:
    path = bomb(tmp_path / "file", rows=1_000, pages=20, length=1_000_000)  # 20 GB of text
    assert path.stat().st_size < 100_000
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    found = read(path)
    assert len(found) == 1_000
    assert all(isinstance(row.asked, ProblemError) and row.asked.kind == "row-too-large" for row in found)
    assert pool.max_memory() - before < 200_000_000


@pytest.mark.parametrize("write", [dataset, nested, ndjson, gzipped])
def test_a_row_that_is_too_large_is_still_its_users(tmp_path: Path, write: Write) -> None:
    rows = documents(5)
    rows[2]["sessions"] = [{"started_at": "2026-11-01T10:00:00Z", "pages": ["/bags"] * 400}]
    rows[4] = {"user_id": "x" * 2_000, "sessions": rows[2]["sessions"]}
    found = read(write(tmp_path / "file", rows), limits=Limits(row_bytes=1_000))
    assert [row.number for row in found] == list(range(5))
    assert [row.user_id for row in found] == ["u0", "u1", "u2", "u3", None], "no user has so long a name"
    assert [row.asked.kind for row in found if isinstance(row.asked, ProblemError)] == ["row-too-large"] * 2


def lines(path: Path, *rows: bytes) -> Path:
    path.write_bytes(b"\n".join(rows))
    return path


@pytest.mark.parametrize("more", [0, 1, 5, 6, 1_000, 200_000])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("ending", [b"", b"\r"])
def test_a_line_that_is_too_large_is_one_row_and_the_next_is_the_next(
    tmp_path: Path, more: int, last: bool, ending: bytes
) -> None:
    """However the pieces of it fall, and at the end of the file, too."""
    limits = Limits(row_bytes=200)
    long = b'{"user_id": "long", "x": "'
    long += b"y" * (limits.row_bytes + more - len(long))
    good = [json.dumps({"user_id": name, "sessions": []}).encode() + ending for name in "abc"]
    rows = [*good, long + ending] if last else [good[0], long + ending, good[1], b"", long + ending, good[2]]
    path = lines(tmp_path / "file", *rows)
    source = open_input(path, limits)
    found = list(source.rows())
    assert [row.user_id for row in found] == (["a", "b", "c", "long"] if last else ["a", "long", "b", "long", "c"])
    assert source.count == len(found)
    assert [row.number for row in found] == list(range(len(found)))
    kinds = {row.asked.kind for row in found if row.user_id == "long" and isinstance(row.asked, ProblemError)}
    assert kinds == ({"row-too-large"} if more else {"broken-json"}), "200 bytes are not too many"
    for start in range(len(found) + 1):
        assert [row.number for row in source.rows(start)] == list(range(start, len(found)))


def test_a_long_line_of_blanks_is_no_row(tmp_path: Path) -> None:
    one, two = (json.dumps(row).encode() for row in documents(2))
    path = lines(tmp_path / "file", one, b" " * 300_000, two)
    assert [row.user_id for row in read(path, limits=Limits(row_bytes=10_000))] == ["u0", "u1"]
    path = lines(tmp_path / "late", one, b" " * 300_000 + one, two)
    found = read(path, limits=Limits(row_bytes=10_000))
    assert [row.user_id for row in found] == ["u0", None, "u1"], "there is something in it, too late to be read"


@pytest.mark.parametrize(
    ("limits", "words"),
    [(Limits(row_bytes=100, bytes=50_000), "HETLM_BATCH_MAX_BYTES"), (Limits(row_bytes=100, rows=2), "MAX_ROWS")],
)
def test_the_file_keeps_its_limits_whatever_its_lines(tmp_path: Path, limits: Limits, words: str) -> None:
    path = lines(tmp_path / "file", *[b"x" * 20_000] * 3)
    problem = problem_of(path, limits)
    assert (problem.kind, words in problem.detail) == ("file-too-large", True)


@pytest.mark.parametrize("write", [Path.write_bytes, lambda path, text: path.write_bytes(gzip.compress(text))])
def test_an_endless_line_takes_no_memory(tmp_path: Path, write: Callable[[Path, bytes], int]) -> None:
    path, row = tmp_path / "file", json.dumps(documents(1)[0]).encode()
    write(path, b'{"user_id": "long", "x": "' + b"y" * 30_000_000 + b"\n" + row)
    tracemalloc.start()
    found = read(path, limits=Limits(row_bytes=100_000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [row.user_id for row in found] == ["long", "u0"]
    assert most < 3_000_000


def test_an_endless_line_can_be_stopped(tmp_path: Path) -> None:
    path, stop = tmp_path / "file", Stop()
    path.write_bytes(b"x\n" + b"y" * 1_000_000)
    source = open_input(path, Limits(row_bytes=10), stop)
    rows = source.rows()
    next(rows)
    stop.set()
    with pytest.raises(Stopped):
        next(rows)


def test_a_user_is_a_name_or_a_number(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [["a"], ["b"]], "sessions": [[], []]}), tmp_path / "file")
    assert "Column user_id" in problem_of(tmp_path / "file").detail


def test_sizes_are_those_of_the_values_unfolded() -> None:
    pages = pa.array([["ab", "c"], None, []], pa.list_(pa.string()))
    assert sizes(pages).tolist() == [1 + 3 + 2, 1, 1]
    assert sizes(pages.cast(pa.list_(pa.dictionary(pa.int32(), pa.string())))).tolist() == [6, 1, 1]
    assert sizes(pages.slice(1)).tolist() == [1, 1]
    both = pa.array([{"a": "xyz", "b": 1}, None], pa.struct([("a", pa.string()), ("b", pa.int64())]))
    assert sizes(both).tolist() == [1 + 4 + 8, 1 + 1 + 8]
    assert sizes(pa.array([None, None], pa.dictionary(pa.int32(), pa.string()))).tolist() == [1, 1]


@pytest.mark.parametrize("write", [ndjson, gzipped, dataset])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, write: Write) -> None:
    def peak(count: int) -> int:
        """Of reading `count` rows of some 5 kB each."""
        pages = ["/bags/tote", "/shoes/red", "/"] * 20
        sessions = [{"started_at": f"2026-11-{day:02}T10:00:00Z", "pages": pages} for day in range(1, 9)]
        path = write(tmp_path / f"{count}", [{"user_id": f"u{i}", "sessions": sessions} for i in range(count)])
        tracemalloc.start()
        for _ in open_input(path, LIMITS).rows():
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)  # what is made once
    assert peak(1_000) < peak(100) + 1_000_000, "that of 900 more rows is 4 MB; pydantic keeps some short strings"


def test_a_row_of_too_many_values_is_not_even_parsed() -> None:
    row = row_of_json(3, b'{"user_id": "ann", "sessions": [' + b"[]," * 40_000 + b"[]]}")
    assert isinstance(row.asked, ProblemError)
    assert (row.number, row.user_id, row.asked.status) == (3, "ann", 413)


@pytest.mark.parametrize(
    ("document", "user"),
    [
        (b'{"user_id": "ann", "x": {"user_id": "bob"}}', "ann"),
        (b'{"x": {"user_id": "bob"}, "y": ["user_id"], "user_id" : "ann"}', "ann"),
        (b'{"x": "\\"user_id\\": \\"bob\\"", "user_id": "a\\u006en"}', "ann"),
        (b'{"user_id": 17, "x": 1}', "17"),
        (b'{"user_id": "ann"}{"user_id": "bob"}', "ann"),
        (b'{"user_id": "ann", "sessions": [{"pages": ["/ca', "ann"),
        (b'{"user_id": "an', None),
        (b'{"user_id": "' + b"x" * 201 + b'"}', None),
        (b'{"user_id": "\xff"}', None),
        (b'["user_id", "ann"]', None),
        (b'[{"user_id": "ann"}]', None),
        (b'{"user_id": null}', None),
        (b"{" + b'"\\\\' * 500_000, None),
        (b'{"x": "' + b'\\"' * 500_000, None),
        (b'{"x": "' + b'"user_id": "' * 90_000, ""),
    ],
)
def test_whose_row_it_is_can_be_told_from_a_document_that_is_not_taken(document: bytes, user: str | None) -> None:
    assert user_in(document) == user
