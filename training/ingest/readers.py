"""Log files as batches of raw columns: delimited text, JSON Lines and Parquet, plain or gzipped, in bounded memory."""

from __future__ import annotations

import glob
import gzip
import io
import json
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, cast

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

Kind = Literal["delimited", "json", "parquet"]
KINDS: dict[str, Kind] = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".txt": "delimited",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
BLOCK = 8 << 20
"""Bytes of text that are parsed at a time."""
_HEAD_LINES = 1000


class LogError(ValueError):
    """A log that cannot be used. The message names the file and what to do, and quotes no personal column."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of a log. `names`: the columns of a file without a header; its leading `#` lines are comments."""

    path: Path
    kind: Kind
    names: tuple[str, ...] | None = None

    @property
    def gzipped(self) -> bool:
        return self.path.suffix == ".gz"

    def bulk(self) -> int:
        """Roughly how many bytes of plain text the file holds."""
        if self.kind == "parquet":
            with _explained(self.path):
                return int(pa.parquet.read_metadata(self.path).num_rows) * 100
        return self.path.stat().st_size * (8 if self.gzipped else 1)


@dataclass(slots=True)
class Rows:
    """Maps a batch's rows to row numbers of the file (1 is the first after the header), malformed rows counted."""

    malformed: list[int] = field(default_factory=list)

    def number(self, index: int) -> int:
        """The row number of the `index`-th well-formed row (from 0)."""
        row = index + 1
        while True:  # every malformed row up to here moves it by one
            moved = index + 1 + bisect_right(self.malformed, row)
            if moved == row:
                return row
            row = moved


def find(logs: Sequence[str], names: tuple[str, ...] | None = None) -> list[LogFile]:
    """The files that `logs` (files, directories, globs) mean, each once, sorted within each. Raises `LogError`."""
    found: dict[Path, LogFile] = {}
    for log in logs:
        path = Path(log)
        if path.is_dir():
            paths = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".") and _kind(p)]
            if not paths:
                raise LogError(f"{path}: no log file in this directory; looked for {_suffixes()}")
        elif path.is_file():
            paths = [path]
        else:
            paths = [p for p in map(Path, sorted(glob.glob(log, recursive=True))) if p.is_file()]
            if not paths:
                raise LogError(f"{log}: no such file")
        for file in paths:
            kind = _kind(file)
            if kind is None:
                raise LogError(f"{file}: unknown kind of file; known are {_suffixes()}, text also with .gz")
            found.setdefault(file.resolve(), LogFile(file, kind, names if kind == "delimited" else None))
    return list(found.values())


def header(log: LogFile) -> list[str]:
    """The names of a file's columns; of JSON Lines, all keys of its first thousand lines."""
    with _explained(log.path):
        if log.kind == "parquet":
            return list(pa.parquet.read_schema(log.path).names)
        with _opened(log, lambda n: None) as file:
            if log.kind == "json":
                return list(_keys(file, log.path))
            if log.names is not None:
                return list(log.names)
            line, delimiter = _first_line(file)
            if not line.strip():
                raise LogError(f"{log.path}: empty, not even a header")
            table = pa.csv.read_csv(
                io.BytesIO(line + b"\n"),
                read_options=pa.csv.ReadOptions(autogenerate_column_names=True),
                parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(default_column_type=pa.string()),
            )
            names = ["" if c[0].as_py() is None else str(c[0].as_py()).strip() for c in table.columns]
            twice = {n for n in names if n and names.count(n) > 1}
            if twice:
                raise LogError(f"{log.path}: the header names column {min(twice)!r} twice")
            return names


def batches(
    log: LogFile, columns: Sequence[str], rows: Rows, advance: Callable[[float], None]
) -> Iterator[pl.DataFrame]:
    """The file's rows in order, only `columns` (text ones as strings); malformed rows are left out and put in `rows`.

    `advance` is told the bytes read (of a gzipped file, of its compressed form). Raises `LogError`.
    """
    with _explained(log.path):
        if log.kind == "parquet":
            yield from _parquet(log, columns, advance)
            return
        with _opened(log, advance) as file:
            yield from _json(file, columns, rows) if log.kind == "json" else _delimited(log, file, columns, rows)


def _parquet(log: LogFile, columns: Sequence[str], advance: Callable[[float], None]) -> Iterator[pl.DataFrame]:
    size = log.path.stat().st_size
    with pa.parquet.ParquetFile(log.path, pre_buffer=False) as file:
        total = file.metadata.num_rows
        for batch in file.iter_batches(batch_size=131_072, columns=list(columns)):
            yield cast(pl.DataFrame, pl.from_arrow(batch))
            advance(size * batch.num_rows / total)


def _delimited(log: LogFile, file: IO[bytes], columns: Sequence[str], rows: Rows) -> Iterator[pl.DataFrame]:
    def malformed(row: Any) -> str:
        rows.malformed.append(row.number)
        return "skip"

    line, delimiter = _first_line(file, comments=log.names is not None)
    if not line:
        return
    names = list(log.names) if log.names is not None else header(log)
    # Without a header a file may hold fewer columns than it could (`names` lists them all); its first row tells.
    if log.names is not None:
        names = names[: line.count(delimiter.encode()) + 1]
    start = line + b"\n" if log.names is not None else b""
    try:
        reader = pa.csv.open_csv(
            _Joined(start, file),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=names),
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter,
                quote_char=False if log.names is not None else '"',
                newlines_in_values=log.names is None,
                invalid_row_handler=malformed,
            ),
            # As bytes: what is not UTF-8 shall cost a character, not the whole log.
            convert_options=pa.csv.ConvertOptions(
                column_types={c: pa.binary() for c in columns},
                include_columns=list(columns),
                include_missing_columns=True,
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return
        raise
    for batch in reader:
        yield pl.DataFrame([_text(name, batch.column(name)) for name in columns], orient="col")


def _text(name: str, values: Any) -> pl.Series:
    try:
        return cast(pl.Series, pl.from_arrow(values.cast(pa.string()))).alias(name)
    except pa.ArrowInvalid:
        return pl.Series(name, [v.decode(errors="replace") for v in values.to_pylist()], dtype=pl.String)


def _json(file: IO[bytes], columns: Sequence[str], rows: Rows) -> Iterator[pl.DataFrame]:
    schema = dict.fromkeys(columns, pl.String)
    done = 0
    rest = b""
    while True:
        block = file.read(BLOCK)
        chunk, _, rest = (rest + block).rpartition(b"\n") if block else (rest, b"", b"")
        if chunk.strip():
            try:
                frame = pl.read_ndjson(io.BytesIO(chunk), schema=schema)
            except pl.exceptions.PolarsError:
                good, bad = _sound_lines(chunk)
                before = done + len(rows.malformed)
                rows.malformed += [before + n for n in bad]
                frame = pl.read_ndjson(io.BytesIO(good), schema=schema) if good else pl.DataFrame(schema=schema)
            done += frame.height
            yield frame
        if not block:
            return


def _sound_lines(chunk: bytes) -> tuple[bytes, list[int]]:
    """The lines that are JSON objects, and the numbers (from 1) of those that are not; blank lines do not count."""
    good: list[bytes] = []
    bad: list[int] = []
    for line in chunk.splitlines():
        if not line.strip():
            continue
        try:
            sound = isinstance(json.loads(line), dict)
        except ValueError:
            sound = False
        if sound:
            good.append(line)
        else:
            bad.append(len(good) + len(bad) + 1)
    return b"\n".join(good), bad


def _keys(file: IO[bytes], path: Path) -> dict[str, None]:
    keys: dict[str, None] = {}
    for number, line in enumerate(file):
        if number == _HEAD_LINES:
            break
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, list) and not keys:
            raise LogError(f"{path}: a JSON array; JSON Lines is wanted, one object per line (`jq -c '.[]'` converts)")
        if isinstance(value, dict):
            keys.update(dict.fromkeys(value))
    if not keys:
        raise LogError(f"{path}: no JSON object in its first lines; JSON Lines has one object per line")
    return keys


def _first_line(file: IO[bytes], comments: bool = False) -> tuple[bytes, str]:
    """The first line that is not blank (nor a `#` comment), and the delimiter that is most frequent in it."""
    for raw in file:
        line = raw.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
        if line.strip() and not (comments and line.startswith(b"#")):
            return line, max(",\t;|", key=lambda d: line.count(d.encode()))
    return b"", ","


class _Joined(io.RawIOBase):
    """Some bytes, and then a file."""

    def __init__(self, start: bytes, file: IO[bytes]) -> None:
        self._start = start
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._start:
            start, self._start = self._start, b""
            return start
        return self._file.read(size)


class _Counted(io.RawIOBase):
    """A file that tells how many bytes were read from it."""

    def __init__(self, file: io.FileIO, advance: Callable[[float], None]) -> None:
        self._file = file
        self._advance = advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self._file.readinto(buffer)
        self._advance(read)
        return read


@contextmanager
def _opened(log: LogFile, advance: Callable[[float], None]) -> Iterator[IO[bytes]]:
    with io.FileIO(log.path) as raw, io.BufferedReader(_Counted(raw, advance), 1 << 20) as counted:
        if not log.gzipped:
            yield counted
            return
        with gzip.open(counted) as plain:
            yield cast(IO[bytes], plain)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LogError(f"{path}: the gzip file is cut short or damaged ({error})") from error
    except pa.ArrowException as error:
        # Arrow quotes the row after a colon; it may be anybody's.
        raise LogError(f"{path}: cannot be read: {str(error).splitlines()[0].split(': ')[0]}") from error
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror or error}") from error


def _kind(path: Path) -> Kind | None:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    kind = KINDS.get(suffix.lower())
    return None if kind == "parquet" and path.suffix == ".gz" else kind


def _suffixes() -> str:
    return ", ".join(KINDS)
