"""NDJSON: one document of `POST /predict` per line, gzipped or not. Blank lines are no rows."""

from __future__ import annotations

import io
import zlib
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from service.problems import ProblemError
from service.scoring.gunzip import Gunzip
from service.scoring.inputs import PARQUET_MAGIC, Limits, beyond
from service.scoring.rows import Row, row_of_json, too_large, user_in
from service.scoring.threads import Stop

_BOM = b"\xef\xbb\xbf"
_BUFFER = 65_536


@dataclass(frozen=True, slots=True)
class _Line:
    """Without white space around it. `too_large`: then it is the beginning of a line that is."""

    text: bytes
    too_large: bool


class NdjsonSource:
    """Reading it once counts the rows and checks the limits; raises `ProblemError`, `OSError`, `Stopped`."""

    def __init__(self, path: Path, limits: Limits, stop: Stop, *, compressed: bool) -> None:
        self._path = path
        self._limits = limits
        self._stop = stop
        self._compressed = compressed
        with closing(self._lines()) as lines:
            self.count = sum(1 for _ in lines)
        if not self.count:
            raise ProblemError("broken-file", "The file has no row: send Parquet, or a JSON document per line.")

    @property
    def format(self) -> Literal["ndjson"]:
        return "ndjson"

    def rows(self, start: int = 0) -> Generator[Row]:
        with closing(self._lines()) as lines:
            for number, line in enumerate(lines):
                if number < start:
                    continue
                if line.too_large:
                    yield too_large(number, self._limits.row_bytes, user_in(line.text))
                else:
                    yield row_of_json(number, line.text)

    def _lines(self) -> Generator[_Line]:
        """Those that are rows."""
        try:
            with self._open() as file:
                yield from self._limited(file)
        except (EOFError, zlib.error):
            raise ProblemError(
                "broken-file", "The gzip file is damaged or ends early: compress or send it again."
            ) from None

    def _open(self) -> BinaryIO:
        file = self._path.open("rb")
        if not self._compressed:
            return file
        members = 0

        def member() -> None:
            nonlocal members
            members += 1
            if members > self._limits.rows:
                raise beyond("The gzip file has", self._limits.rows, "members", "HETLM_BATCH_MAX_ROWS")

        return io.BufferedReader(Gunzip(file, self._stop.check, member), _BUFFER)

    def _limited(self, file: BinaryIO) -> Generator[_Line]:
        limits = self._limits
        place = rows = total = 0

        def read(most: int) -> bytes:
            nonlocal total
            self._stop.check()  # blank lines and rows that are passed over come back to nobody else
            piece = file.readline(most)
            total += len(piece)
            if total > limits.bytes:
                raise beyond("Decompressed, the file has", limits.bytes, "bytes", "HETLM_BATCH_MAX_BYTES")
            return piece

        # No more of an endless line is kept than shows that it is one.
        while piece := read(limits.row_bytes + len(_BOM + b"\r\n")):
            place += 1
            if place > limits.rows:
                unit = "rows" if rows == limits.rows else "lines, blank ones among them"
                raise beyond("The file has", limits.rows, unit, "HETLM_BATCH_MAX_ROWS")
            line = piece
            if place == 1:
                if line.startswith(PARQUET_MAGIC):
                    raise ProblemError("broken-file", "The file is gzipped Parquet: send the Parquet file itself.")
                line = line.removeprefix(_BOM)
            # Before blanks are taken away: they belong to a line's bytes, and a part of a line is no line.
            cut = len(line.removesuffix(b"\n").removesuffix(b"\r")) > limits.row_bytes
            blank = not (line := line.strip())
            while cut and piece and not piece.endswith(b"\n"):
                piece = read(_BUFFER)
                blank = blank and (not piece or piece.isspace())
            if not blank:
                rows += 1
                yield _Line(line, cut)
