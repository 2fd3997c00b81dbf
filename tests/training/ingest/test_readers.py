"""Every kind of file gives the same rows; damage is named, and nobody's data is quoted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from training.ingest import readers
from training.ingest.readers import LogError, LogFile, Rows, batches, find, header

ROWS = [{"user": f"u{n}", "note": f'a "{n}",\nb', "page": "/é"} for n in range(500)]


def _csv(path: Path, separator: str = ",") -> None:
    path.write_text(pl.DataFrame(ROWS).write_csv(separator=separator))


def _zipped(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def zipped(path: Path) -> None:
        write(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return zipped


def _json(path: Path) -> None:
    path.write_text("\n".join(json.dumps(row) for row in ROWS))


KINDS: dict[str, Callable[[Path], None]] = {
    "log.csv": _csv,
    "log.csv.gz": _zipped(_csv),
    "log.tsv": lambda path: _csv(path, "\t"),
    "semicolons.csv": lambda path: _csv(path, ";"),
    "bom.csv": lambda path: pl.DataFrame(ROWS).write_csv(path, include_bom=True),
    "log.jsonl": _json,
    "log.ndjson.gz": _zipped(_json),
    "log.parquet": lambda path: pl.DataFrame(ROWS).write_parquet(path),
}


def read(path: Path, columns: list[str]) -> tuple[pl.DataFrame, Rows, float]:
    (log,) = find([str(path)])
    rows = Rows()
    told = [0.0]

    def advance(n: float) -> None:
        told[0] += n

    return pl.concat(batches(log, columns, rows, advance)), rows, told[0]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_same_rows(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    KINDS[name](path)
    monkeypatch.setattr(readers, "BLOCK", 2000)  # many batches, rows across their borders
    assert header(find([str(path)])[0]) == ["user", "note", "page"]
    frame, rows, told = read(path, ["page", "user"])
    assert frame.rows() == [(row["page"], row["user"]) for row in ROWS]
    assert not rows.malformed
    assert told == pytest.approx(path.stat().st_size)


def test_json_lines_differ_in_keys_and_types(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": 1, "t": 1.5}\n\n{"clientId": "x", "t": "2026"}\nbroken\n[1]\n{"id": null}\n')
    assert header(LogFile(path, "json")) == ["id", "t", "clientId"]
    frame, rows, _ = read(path, ["id", "clientId", "t"])
    assert frame.rows() == [("1", None, "1.5"), (None, "x", "2026"), (None, None, None)]
    assert rows.malformed == [3, 4]
    assert [rows.number(index) for index in range(3)] == [1, 2, 5]


def test_malformed_rows_of_csv_are_left_out_and_numbered(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("a,b\n1,2\n1,2,3\n5,6\n7\n8,9\n")
    frame, rows, _ = read(path, ["a"])
    assert frame["a"].to_list() == ["1", "5", "8"]
    assert rows.malformed == [2, 4]
    assert [rows.number(index) for index in range(3)] == [1, 3, 5]


def test_bytes_that_are_not_utf8_cost_a_character(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"a,b\nx,\xff/bags\ny,/ok\n")
    frame, _, _ = read(path, ["b", "a"])
    assert frame.rows() == [("\ufffd/bags", "x"), ("/ok", "y")]


def test_files_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv.gz"
    path.write_bytes(gzip.compress(b'# a comment\n# user time\n\n"x\t1\tp\ny\t2\tq\n'))
    (log,) = find([str(path)], ("user", "time", "page", "type"))
    rows = Rows()
    frame = pl.concat(batches(log, ["user", "page"], rows, lambda n: None))
    assert frame.rows() == [('"x', "p"), ("y", "q")]


def test_directories_and_globs(tmp_path: Path) -> None:
    for name in ("b.csv", "a.jsonl", "sub/c.parquet", "README.md", ".hidden.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n")
    names = [log.path.name for log in find([str(tmp_path)])]
    assert names == ["a.jsonl", "b.csv", "c.parquet"]
    assert [log.path.name for log in find([str(tmp_path / "*.csv"), str(tmp_path / "b.csv")])] == ["b.csv"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.csv.gz", gzip.compress(b"a,b\n")[:-12], r"cut\.csv\.gz: the gzip file is cut"),
        ("not.csv.gz", b"a,b\n1,2\n", r"not\.csv\.gz: the gzip file is cut short or damaged"),
        ("not.parquet", b"PAR1 or rather not", r"not\.parquet: cannot be read"),
        ("array.json", b'[{"a": 1}]', r"array\.json: a JSON array"),
        ("words.jsonl", b"hello\n", r"words\.jsonl: no JSON object"),
        ("twice.csv", b"a,b,a\n1,2,3\n", r"twice\.csv: the header names column 'a' twice"),
        ("blank.csv", b"\n\n", r"blank\.csv: empty"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    (log,) = find([str(path)])
    with pytest.raises(LogError, match=message):
        header(log)


def test_a_truncated_gzip_is_noticed_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    _zipped(_csv)(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(LogError, match=r"log\.csv\.gz: the gzip file is cut short"):
        read(path, ["user"])


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere.csv", "no such file"), ("page.html", "unknown kind of file"), ("", "no log file in this directory")],
)
def test_what_is_no_log(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "page.html").write_text("x")
    with pytest.raises(LogError, match=message):
        find([str(tmp_path / name)])


def test_arrow_does_not_quote_rows(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("a,b\n1,2\n" + '"secret@mail.example' * 3 + "x" * 100)
    frame, rows, _ = read(path, ["a"])
    assert frame["a"].to_list() == ["1"]
    assert rows.malformed == [2]
