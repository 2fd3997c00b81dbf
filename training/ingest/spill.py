"""Page views on disk, split by user: however long the log, each part fits in memory, and no user is in two of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl
import pyarrow as pa

PART_BYTES = 16 << 20
"""Text of the log that makes one part."""
MAX_PARTS = 400
"""Open files; beyond MAX_PARTS * PART_BYTES of log (6 GB) the parts grow."""


def parts_for(log_bytes: int) -> int:
    return max(1, min(MAX_PARTS, -(-log_bytes // PART_BYTES)))


class Spill:
    """Appends frames to `parts` Arrow files by a hash of the user; reads them back one at a time, rows in order."""

    def __init__(self, directory: Path, parts: int) -> None:
        directory.mkdir()
        self._paths = [directory / f"{part}.arrow" for part in range(parts)]
        self._writers: dict[int, Any] = {}

    def write(self, frame: pl.DataFrame) -> None:
        if len(self._paths) == 1:
            self._append(0, frame)
            return
        part = (frame["user"].hash(seed=0) % len(self._paths)).alias("part")
        pieces = frame.with_columns(part).partition_by("part", maintain_order=True, include_key=False, as_dict=True)
        for (number,), piece in pieces.items():
            self._append(int(number), piece)

    def _append(self, part: int, frame: pl.DataFrame) -> None:
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if part not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writers[part] = pa.ipc.new_stream(str(self._paths[part]), table.schema, options=options)
        self._writers[part].write_table(table)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self) -> Iterator[pl.DataFrame]:
        """Every part that holds something, in a fixed order; each is deleted once the next is asked for."""
        self.close()
        for part in sorted(self._writers):
            path = self._paths[part]
            yield pl.read_ipc_stream(path)
            path.unlink()
