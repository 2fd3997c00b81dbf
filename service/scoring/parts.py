"""The finished chunks of a file under way: one Parquet file each, there whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from browsing.whole import whole
from service.problems import ProblemError
from service.scoring.results import Record, Tally, lines, table, tally_of
from service.scoring.threads import Stop

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
ROW_GROUP = 20_000
"""Rows of a result that are held in memory while it is put together."""
LINES = 500
"""Rows of a result that are turned into NDJSON at once."""
_COUNTS = (b"hetlm.failed", b"hetlm.fallbacks")
_VERSION = b"hetlm.bundle"


@dataclass(frozen=True, slots=True)
class Part:
    """A finished chunk. `contents`: the Parquet file of it that is kept."""

    chunk: int
    contents: bytes
    tally: Tally


def part_of(chunk: int, records: Sequence[Record], columns: pa.Schema, version: str) -> Part:
    """`version`: the bundle's."""
    tally = sum(map(tally_of, records), start=Tally())
    told = (str(tally.failed), str(tally.fallbacks))
    metadata = {**dict(zip(_COUNTS, told, strict=True)), _VERSION: version.encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(table(records, columns).replace_schema_metadata(metadata), sink, compression="zstd")
    return Part(chunk, sink.getvalue().to_pybytes(), tally)


class Parts:
    """Chunk i holds the rows from `i * chunk_rows` on. All methods block, and raise `OSError` and, with a `stop`,
    `Stopped`."""

    def __init__(self, directory: Path, columns: pa.Schema, chunk_rows: int, rows: int, version: str) -> None:
        """`rows`: of the whole input. `version`: the bundle's; each chunk says which it is of, and those of another do
        not count."""
        self._directory = directory
        self._columns = columns
        self._version = version
        self.chunk_rows = chunk_rows
        self.rows = rows

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.chunk_rows)

    def resume(self, stop: Stop | None = None) -> Tally:
        """What is finished: the chunks from the first on that are whole and of this version. Anything else is
        removed."""
        tally, chunk = Tally(), 0
        while chunk < self.chunks and (found := self._tally(chunk)) is not None:
            if stop is not None:
                stop.check()
            tally += found
            chunk += 1
        self._remove_all_but(range(chunk))
        return tally

    def finished(self) -> dict[int, Tally]:
        """As `resume`, but whatever is missing between them: for chunks that are not scored in their order."""
        found = {chunk: tally for chunk in range(self.chunks) if (tally := self._tally(chunk)) is not None}
        self._remove_all_but(found)
        return found

    def write(self, chunk: int, records: list[Record]) -> Tally:
        """Keep a finished chunk: it survives whatever happens to the process."""
        part = part_of(chunk, records, self._columns, self._version)
        self.keep(part)
        return part.tally

    def keep(self, part: Part) -> None:
        """As `write`."""
        with whole(self._path(part.chunk), durable=True) as partial, partial.open("wb") as file:
            file.write(part.contents)

    def assemble(self, out: Path, form: Literal["parquet", "ndjson"], stop: Stop | None = None) -> None:
        """All chunks as one file, in order. Raises `ProblemError` where a chunk is not what was written."""
        stop = stop or Stop()
        with whole(out, durable=True) as partial, partial.open("wb") as file:
            if form == "ndjson":
                for part in self._tables(stop):
                    for batch in part.to_batches(LINES):
                        stop.check()
                        file.writelines(lines(batch))
                return
            with pq.ParquetWriter(file, self._columns, compression="zstd") as writer:
                waiting: list[pa.Table] = []
                for part in self._tables(stop):
                    waiting.append(part)
                    if sum(held.num_rows for held in waiting) >= ROW_GROUP:
                        writer.write_table(pa.concat_tables(waiting), row_group_size=ROW_GROUP)
                        waiting = []
                if waiting:
                    writer.write_table(pa.concat_tables(waiting), row_group_size=ROW_GROUP)

    def _tables(self, stop: Stop) -> Iterator[pa.Table]:
        number = 0
        for chunk in range(self.chunks):
            stop.check()
            with pq.ParquetFile(self._path(chunk)) as file:
                version = (file.metadata.metadata or {}).get(_VERSION)
                part = file.read().replace_schema_metadata(None)
            expected = min(self.chunk_rows, self.rows - number)
            fits = version == self._version.encode() and part.schema.equals(self._columns)
            if not fits or part.column("row").to_pylist() != list(range(number, number + expected)):
                raise ProblemError("internal", f"Chunk {chunk} does not hold its rows: remove the unfinished work.")
            number += expected
            yield part

    def _remove_all_but(self, chunks: Container[int]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        kept = {self._path(chunk).name for chunk in range(self.chunks) if chunk in chunks}
        for entry in self._directory.iterdir():
            if entry.name not in kept:
                entry.unlink()

    def _path(self, chunk: int) -> Path:
        return self._directory / f"{chunk:08d}.parquet"

    def _tally(self, chunk: int) -> Tally | None:
        """None where the chunk is missing, or not one of this input and version."""
        try:
            with pq.ParquetFile(self._path(chunk)) as file:
                metadata, columns = file.metadata, file.schema_arrow
        except (OSError, pa.ArrowException):
            return None
        told = metadata.metadata or {}
        if metadata.num_rows != min(self.chunk_rows, self.rows - chunk * self.chunk_rows):
            return None
        if told.get(_VERSION) != self._version.encode():
            return None
        if not columns.equals(self._columns, check_metadata=False) or not all(name in told for name in _COUNTS):
            return None
        failed, fallbacks = (int(told[name]) for name in _COUNTS)
        return Tally(metadata.num_rows, failed, fallbacks)


def disk_full(error: BaseException) -> bool:
    """Whether this, or what led to it, says that there is no room for more."""
    while True:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if (cause := error.__cause__ or error.__context__) is None:
            return False
        error = cause
