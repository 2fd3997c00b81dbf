"""NDJSON: one document of `POST /predict` per line, gzipped or not. Empty lines are no rows."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Literal

from service.problems import ProblemError
from service.scoring.inputs import PARQUET_MAGIC, Limits, beyond
from service.scoring.rows import Row, row_of_json

_BOM = b"\xef\xbb\xbf"


class NdjsonSource:
    """Reading it once counts the rows and checks the limits; raises `ProblemError`, `OSError`."""

    def __init__(self, path: Path, limits: Limits, *, compressed: bool) -> None:
        self._path = path
        self._limits = limits
        self._compressed = compressed
        self.count = 0
        with closing(self._lines()) as lines:
            for _ in lines:
                self.count += 1
                if self.count > limits.rows:
                    raise beyond("The file has", limits.rows, "rows", "HETLM_BATCH_MAX_ROWS")
        if not self.count:
            raise ProblemError("broken-file", "The file has no row: send Parquet, or a JSON document per line.")

    @property
    def format(self) -> Literal["ndjson"]:
        return "ndjson"

    def rows(self, start: int = 0) -> Generator[Row]:
        with closing(self._lines()) as lines:
            for number, line in enumerate(lines):
                if number >= start:
                    yield row_of_json(number, line)

    def _lines(self) -> Generator[bytes]:
        try:
            with self._open() as file:
                yield from self._limited(file)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise ProblemError(
                "broken-file", "The gzip file is damaged or ends early: compress or send it again."
            ) from None

    def _open(self) -> gzip.GzipFile | BinaryIO:
        return gzip.open(self._path) if self._compressed else self._path.open("rb")

    def _limited(self, file: gzip.GzipFile | BinaryIO) -> Iterator[bytes]:
        most, total = self._limits.row_bytes, 0
        place = 0
        while line := file.readline(most + 2):  # no more of an endless line than that it is one
            place += 1
            total += len(line)
            if total > self._limits.bytes:
                raise beyond("Decompressed, the file has", self._limits.bytes, "bytes", "HETLM_BATCH_MAX_BYTES")
            if place == 1:
                if line.startswith(PARQUET_MAGIC):
                    raise ProblemError("broken-file", "The file is gzipped Parquet: send the Parquet file itself.")
                line = line.removeprefix(_BOM)
            line = line.strip()
            if len(line) > most:
                raise beyond(f"Line {place} has", most, "bytes", "HETLM_BODY_LIMIT_BYTES")
            if line:
                yield line
