"""Files of visitors: what kind a file is, by its contents, and the limits that it must keep."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from service.problems import ProblemError
from service.scoring.rows import Row
from service.scoring.threads import Stop
from service.settings import Settings

Format = Literal["parquet", "ndjson"]
PARQUET_MAGIC = b"PAR1"
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Limits:
    """`rows`: also of an NDJSON file's lines, blank ones among them, for they take time, too. `bytes`: of the whole
    file, decompressed. `row_group_bytes`: of one of Parquet's row groups, decompressed, as the file declares it.
    `row_bytes`: of one row, the line of an NDJSON file; alone of them it is a matter of that row, not of the file."""

    rows: int = 10_000_000
    bytes: int = 64 * 2**30
    row_group_bytes: int = 2**30
    row_bytes: int = 2**20


def limits_of(settings: Settings) -> Limits:
    """A row may be as large as the body of `POST /predict`."""
    return Limits(
        settings.batch_max_rows,
        settings.batch_max_bytes,
        settings.batch_max_row_group_bytes,
        settings.body_limit_bytes,
    )


class Source(Protocol):
    """A file that keeps the limits."""

    @property
    def format(self) -> Format: ...

    @property
    def count(self) -> int:
        """Rows."""

    def rows(self, start: int = 0) -> Generator[Row]:
        """Every row from number `start` on, in order; memory does not grow with the file. Raises `ProblemError` where
        the file breaks off, and `Stopped`."""


def open_input(path: Path, limits: Limits, stop: Stop | None = None) -> Source:
    """Detect the format and read as much as it takes to check the limits. Blocks; raises `ProblemError` (broken-file,
    file-too-large), which names the limit and the remedy and quotes nothing of the file, and `OSError`. `stop`: ends
    this, and later the reading of rows, with `Stopped`."""
    from service.scoring.ndjson import NdjsonSource
    from service.scoring.parquet import ParquetSource

    with path.open("rb") as file:
        head = file.read(4)
    stop = stop or Stop()
    if head == PARQUET_MAGIC:
        return ParquetSource(path, limits, stop)
    return NdjsonSource(path, limits, stop, compressed=head.startswith(GZIP_MAGIC))


def beyond(what: str, limit: int, unit: str, variable: str) -> ProblemError:
    """`what` has more than `limit`."""
    return ProblemError(
        "file-too-large", f"{what} more than {limit} {unit}: split the file, or raise the limit ({variable})."
    )
