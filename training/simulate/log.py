"""From simulated sessions to a raw log, as a shop's tracking would write it: URLs, event types and times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from training.simulate.world import PURCHASE, Ints, Visits

LogFormat = Literal["csv", "parquet", "jsonl"]
HOST = "https://shop.example"
EVENTS = ("page_viewed", "product_added_to_cart", "checkout_completed")
COLUMNS = {"user_id": "user_id", "time": "timestamp", "page": "page_url", "event_type": "event_type"}
TRACKING = ("", "", "", "/", "?utm_source=newsletter&utm_medium=email", "?ref=menu", "?gclid=")
"""Ends of URLs that mean nothing; the last one gets a click's number."""
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_DAYS = 30
"""Visitors first come within these days after EPOCH."""
PAUSE = (5, 240)
"""Seconds between views of a session; with a cart and a purchase between them, still far below any session gap."""
HOURS_AWAY = 3
"""The least time between two sessions; on average 4 days more."""


def user_ids(first: int, count: int) -> list[str]:
    return [f"u-{i:07d}" for i in range(first, first + count)]


@dataclass(frozen=True, slots=True)
class Block:
    """Sessions of some users. `user`: int64 [n], indices into `users`; a user's sessions stand in their order."""

    users: list[str]
    user: Ints
    visits: Visits


def events(block: Block, pages: Sequence[str], generator: np.random.Generator) -> pl.DataFrame:
    """The rows of a block, by time: the columns of `COLUMNS`."""
    visits, n = block.visits, len(block.visits)
    pauses = generator.integers(*PAUSE, (n, visits.views.shape[1]))
    pauses[:, 0] = 0
    within = np.cumsum(np.where(visits.views >= 0, pauses, 0), axis=1) * 3  # room for a cart and a purchase after each
    away = 3600 * HOURS_AWAY + generator.exponential(4 * 86400, n).astype(np.int64)
    first = np.r_[True, block.user[1:] != block.user[:-1]]
    away[first] = generator.integers(0, FIRST_DAYS * 86400, int(first.sum()))
    # A session begins after the one before it has ended; a user's first one, some time after EPOCH.
    length = within.max(1) + 3
    began = np.cumsum(away + np.r_[0, length[:-1]])
    began -= np.repeat(began[first] - away[first], np.diff(np.r_[np.flatnonzero(first), n]))
    rows, seconds, page, event = [], [], [], []
    for kind in range(len(EVENTS)):
        session, position = np.nonzero((visits.views >= 0) & (visits.outcomes >= kind))
        rows.append(block.user[session])
        seconds.append(began[session] + within[session, position] + kind)
        page.append(visits.views[session, position])
        event.append(np.full(len(session), kind))
    count = sum(map(len, rows))
    suffix = generator.integers(0, len(TRACKING), count)
    click = generator.integers(10**9, 10**10, count).astype(str)
    path = np.array([*pages, "/checkout/thank-you"])
    where = np.where(np.concatenate(event) == PURCHASE, len(pages), np.concatenate(page))
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(block.users).gather(np.concatenate(rows)),
            "timestamp": np.concatenate(seconds),
            "path": pl.Series(path).gather(where),
            "suffix": pl.Series(TRACKING).gather(suffix),
            "click": np.where(suffix == len(TRACKING) - 1, click, ""),
            "event_type": pl.Series(EVENTS).gather(np.concatenate(event)),
        }
    )
    frame = frame.sort("timestamp", maintain_order=True)
    origin = pl.lit(EPOCH.replace(tzinfo=None)).cast(pl.Datetime("ms"))
    time = origin + pl.duration(seconds=pl.col("timestamp"))
    return frame.select(
        "user_id",
        timestamp=time.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        page_url=pl.lit(HOST) + pl.col("path") + pl.col("suffix") + pl.col("click"),
        event_type="event_type",
    )


class Sink(Protocol):
    def __call__(self, frame: pl.DataFrame) -> None: ...


@contextmanager
def writer(path: Path, log_format: LogFormat) -> Iterator[Sink]:
    """Append frames of one schema to a new file."""
    if log_format == "parquet":
        parquet: pq.ParquetWriter | None = None

        def append(frame: pl.DataFrame) -> None:
            nonlocal parquet
            table = frame.to_arrow()
            if parquet is None:
                parquet = pq.ParquetWriter(path, table.schema, compression="zstd")
            parquet.write_table(table)

        try:
            yield append
        finally:
            if parquet is not None:
                parquet.close()
        return
    with path.open("wb") as file:

        def write(frame: pl.DataFrame) -> None:
            if log_format == "csv":
                frame.write_csv(file, include_header=file.tell() == 0)
            else:
                frame.write_ndjson(file)

        yield write
