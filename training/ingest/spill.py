"""Page views on disk, split by user: however long the log, each part fits in memory, and no user is in two of them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa

PART_BYTES = 16 << 20
"""Text of the log that makes one part."""
MAX_PARTS = 400
"""Open files; beyond MAX_PARTS * PART_BYTES of log (6 GB) the parts grow."""
ROWS = 1_000_000
"""Written together: in the small pieces that single batches give to each part, Arrow is mostly overhead."""


def parts_for(log_bytes: int) -> int:
    return max(1, min(MAX_PARTS, -(-log_bytes // PART_BYTES)))


class Spill:
    """Appends frames to `parts` Arrow files by a hash of the user, rows in order, in a thread of its own: while one
    stretch of the log is written the next is gathered."""

    def __init__(self, directory: Path, parts: int) -> None:
        directory.mkdir()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ingest-spill")
        self._writing: Future[None] | None = None
        self._paths = [directory / f"{part}.arrow" for part in range(parts)]
        self._writers: dict[int, Any] = {}
        self._frames: list[pl.DataFrame] = []
        self._rows = 0

    def write(self, frame: pl.DataFrame) -> None:
        """Raises what the writing of an earlier frame raised."""
        self._frames.append(frame)
        self._rows += frame.height
        if self._rows >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        frames, self._frames, self._rows = self._frames, [], 0
        self._settle()
        self._writing = self._pool.submit(self._split, frames)

    def _settle(self) -> None:
        """Nothing is being written any more."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _split(self, frames: list[pl.DataFrame]) -> None:
        frame = pl.concat(frames, rechunk=True)
        frames.clear()
        parts = len(self._paths)
        if parts == 1:
            self._append(0, _table(frame))
            return
        part = (frame["user"].hash(seed=0) % parts).to_numpy().astype(np.uint16)
        order = np.argsort(part, kind="stable")  # of 16 bits: by radix, in linear time
        table = _table(frame.select(pl.all().gather(pl.Series(order.astype(np.uint32)))))
        edges = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=parts))]).tolist()
        for number in range(parts):
            if edges[number] < edges[number + 1]:
                self._append(number, table.slice(edges[number], edges[number + 1] - edges[number]))

    def _append(self, part: int, table: pa.Table) -> None:
        if part not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._writers[part] = pa.ipc.new_stream(str(self._paths[part]), table.schema, options=options)
        self._writers[part].write_table(table)

    def close(self) -> None:
        self._pool.shutdown()
        for writer in self._writers.values():
            writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def parts(self) -> list[Path]:
        """The files of all parts that hold something, in a fixed order, for `taken`. Nothing can be written then."""
        self._flush()
        self._settle()
        self.close()
        return [self._paths[part] for part in sorted(self._writers)]


def taken(part: Path) -> pl.DataFrame:
    """The rows of a part, whose file is deleted."""
    frame = pl.read_ipc_stream(part)
    part.unlink()
    return frame


def _table(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
