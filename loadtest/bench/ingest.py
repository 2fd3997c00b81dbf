"""`hetlm ingest` against the least that any ingest must do: polars reading the same log, sorting it, writing it.

The log is synthetic, in the order of time, as a shop's page views are: visitors come back at random, sessions of a few
pages overlap with thousands of others, popular pages take most of the views, and every address carries a tracking
parameter that makes it unique. The peer reads all columns, sorts by visitor and time in polars' streaming engine and
writes one Parquet file; it knows nothing of pages, sessions, samples or counts. Both run in processes of their own,
in alternation, and tell their own peak memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer

from browsing.console import STDERR, fail, progress
from loadtest.bench.document import Figure
from loadtest.bench.ending import OUT, JsonOption, OutOption, end, folder, study
from loadtest.bench.lists import chosen, counts
from loadtest.bench.machine import Watch
from loadtest.bench.spread import Spread
from loadtest.figures import ratio

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["csv", "parquet"]
ASKED, ASKED_GB = 0.6, 1.5
"""Of ours: the share of the peer's speed, and at most so much memory, whatever the log's length."""
KINDS: tuple[Kind, ...] = ("csv", "parquet")
LEAST = 1_000
"""Events of a log: fewer are no log."""
START = 1_767_225_600_000
"""When the log begins, in milliseconds since 1970."""
DAYS = 90
EVENTS_PER_VISITOR = 40
SESSIONS_PER_SLICE = 50_000
"""Of one slice of the log: what is in memory while it is written."""
MEAN_SESSION = 6
PAGES = 20_000
BYTES_PER_EVENT = 140
"""Of the log as CSV, and of what both sides put on the disk while they work: rather too many than too few."""

_TOLD = (
    "finally:\n"
    "    with open('/proc/self/status') as status, open({told!r}, 'w') as told:\n"
    "        told.write(next(line.split()[1] for line in status if line.startswith('VmHWM')))\n"
)
_OURS = "import sys\nfrom browsing.cli import main\nsys.argv = {arguments!r}\ntry:\n    main()\n" + _TOLD
_PEER = (
    "import polars as pl\ntry:\n"
    "    pl.scan_{kind}({log!r}).sort('client_id', 'timestamp').sink_parquet({out!r}, engine='streaming')\n" + _TOLD
)


@dataclass(frozen=True, slots=True)
class Once:
    """One run of one side. `memory`: its peak, resident bytes. `cpu`: seconds over all cores."""

    seconds: float
    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Found:
    """`ours` and `peer` in the order in which they ran, one of each per pair."""

    events: int
    kind: Kind
    log_bytes: int
    ours: tuple[Once, ...]
    peer: tuple[Once, ...]

    @property
    def speeds(self) -> list[float]:
        """The peer's time over ours, pair by pair."""
        return [b.seconds / a.seconds for a, b in zip(self.ours, self.peer, strict=True)]

    @property
    def cpus(self) -> list[float]:
        """The same by CPU time."""
        return [b.cpu / a.cpu for a, b in zip(self.ours, self.peer, strict=True)]

    def document(self) -> dict[str, object]:
        return {
            "events": self.events,
            "kind": self.kind,
            "log_bytes": self.log_bytes,
            "speed_ratio": ratio(self.speeds).model_dump(),
            "cpu_ratio": ratio(self.cpus).model_dump(),
            "ours": {"runs": [asdict(once) for once in self.ours], "memory": max(o.memory for o in self.ours)},
            "peer": {"runs": [asdict(once) for once in self.peer], "memory": max(o.memory for o in self.peer)},
        }

    def figures(self) -> list[Figure]:
        place, log = f"{self.kind}/{self.events}", f"{self.events:,} events, {self.kind}"
        return [
            Figure(
                key=f"speed/{place}",
                figure=f"{log}: speed over polars' scan, sort and write of the same file",
                unit="ratio",
                better="higher",
                value=Spread.of_ratios(self.speeds),
                limit=ASKED,
            ),
            Figure(
                key=f"cpu/{place}",
                figure=f"{log}: the same by CPU time",
                unit="ratio",
                better="higher",
                value=Spread.of_ratios(self.cpus),
                limit=None,
            ),
            Figure(
                key=f"memory/{place}",
                figure=f"{log}: peak memory, GB",
                unit="GB",
                better="lower",
                value=Spread.of_amounts([once.memory / 1e9 for once in self.ours]),
                limit=ASKED_GB,
            ),
        ]


def run(events: int, kind: Kind, pairs: int, seed: int, scratch: Path | None = None) -> Found:
    """Write the log below `scratch` (by default the system's temporary folder), run both sides, remove everything.

    Raises `RuntimeError` with what a side that failed had to say.
    """
    with tempfile.TemporaryDirectory(prefix="hetlm-ingest-", dir=scratch) as folder:
        root = Path(folder)
        log = root / f"log.{kind}"
        write_log(log, kind, events, seed)
        ours: list[Once] = []
        peer: list[Once] = []
        with progress("runs", 2 * pairs, "runs") as advance:
            for pair in range(pairs):
                # In every second pair the other side is first, so that whatever drifts favours neither.
                for side in ("ours", "peer") if pair % 2 else ("peer", "ours"):
                    (ours if side == "ours" else peer).append(_once(side, log, kind, root))
                    advance(1)
        size = log.stat().st_size
    return Found(events, kind, size, tuple(ours), tuple(peer))


def _once(side: str, log: Path, kind: Kind, root: Path) -> Once:
    told, out = root / "told", root / side
    if side == "ours":
        code = _OURS.format(arguments=["hetlm", "ingest", str(log), "--out", str(out), "--json"], told=str(told))
    else:
        code = _PEER.format(kind=kind, log=str(log), out=str(out), told=str(told))
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "HETLM_QUIET": "1"}
    )
    seconds, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise RuntimeError(f"{side} failed with code {done.returncode}: {done.stderr.strip()[-2000:]}")
    memory = int(told.read_text()) * 1024
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return Once(seconds, cpu, memory)


def write_log(path: Path, kind: Kind, events: int, seed: int) -> None:
    """A log of exactly `events` rows, a function of `events` and `seed`, in memory that does not grow with it."""
    import pyarrow.parquet as pq

    with progress("writing the log", events, "events") as advance, path.open("wb") as file:
        writer = None
        for number, frame in enumerate(_slices(events, seed)):
            if kind == "csv":
                frame.write_csv(file, include_header=number == 0)
            else:
                table = frame.to_arrow()
                writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
                writer.write_table(table)
            advance(frame.height)
        if writer is not None:
            writer.close()


def _slices(events: int, seed: int) -> Iterator[pl.DataFrame]:
    """The log in stretches of time of about `SESSIONS_PER_SLICE` sessions, each sorted by time."""
    import polars as pl

    random = np.random.default_rng(seed)
    visitors = max(1, events // EVENTS_PER_VISITOR)
    slices = -(-events // (SESSIONS_PER_SLICE * MEAN_SESSION))
    span = DAYS * 86_400_000 // slices
    popularity = 1.0 / np.arange(1, PAGES + 1) ** 1.1
    popularity = np.cumsum(popularity / popularity.sum())
    left = events
    for number in range(slices):
        rows = left if number == slices - 1 else min(left, events // slices)
        lengths = random.geometric(1 / MEAN_SESSION, rows)
        lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), rows)) + 1]
        session = np.repeat(np.arange(len(lengths)), lengths)[:rows]
        first = np.concatenate([[0], np.cumsum(lengths)[:-1]])[session]
        pauses = np.cumsum(random.exponential(45_000.0, rows))
        since = (pauses - pauses[first]).astype(np.int64)
        moment = random.integers(0, span, len(lengths))[session] + since
        page = np.searchsorted(popularity, random.random(rows))
        deed = random.random(rows)
        frame = pl.DataFrame(
            {
                "visitor": random.integers(0, visitors, len(lengths))[session],
                "time": START + number * span + np.minimum(moment, span - 1),
                "page": page,
                "click": random.integers(0, 2**40, rows),
                "deed": np.where(page < 200, 0, np.searchsorted([0.9, 0.98], deed) + 1),
            }
        )
        left -= rows
        names = ["page_viewed", "product_viewed", "product_added_to_cart", "checkout_completed"]
        yield frame.sort("time", maintain_order=True).select(
            pl.format("visitor-{}", "visitor").alias("client_id"),
            pl.from_epoch("time", time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").alias("timestamp"),
            pl.col("deed").replace_strict(list(range(4)), names).alias("event_name"),
            pl.format("https://shop.example/c{}/item-{}?gclid={}", pl.col("page") % 50, "page", "click").alias(
                "page_url"
            ),
        )


def ingest(
    events: Annotated[str, typer.Option(help="rows of the synthetic log; several, one log each")] = "30000000",
    kind: Annotated[str, typer.Option(help="of the log's file: csv, parquet, or both")] = "csv",
    pairs: Annotated[int, typer.Option(min=1, help="runs of each side on each log, in alternation")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="of the log")] = 0,
    scratch: Annotated[
        Path | None, typer.Option(help="folder for the log and what both sides write; by default the system's own")
    ] = None,
    out: OutOption = OUT,
    as_json: JsonOption = False,
) -> None:
    """`hetlm ingest` against polars alone: the same log read, sorted by visitor and time, and written.

    The peer does nothing else, so that its time is what reading, sorting and writing cost at the least. It holds the
    log in memory: 30 million events are some 12 GB there. Every kind is measured with every number of events, one log
    after another.
    """
    if scratch is not None and not scratch.is_dir():
        raise fail(f"--scratch {scratch}: no such folder")
    logs = list(product(chosen("--kind", kind, KINDS), counts("--events", events, "3000000,30000000", LEAST)))
    if not logs:
        raise fail(f"--kind {kind}: nothing is left to measure")
    needed = max(rows for _, rows in logs) * BYTES_PER_EVENT
    free = shutil.disk_usage(scratch or tempfile.gettempdir()).free
    if needed > free:
        raise fail(f"{needed / 1e9:.1f} GB are needed where {free / 1e9:.1f} GB are free: choose another --scratch")
    folder(out)
    watch = Watch.start()
    found = []
    for own, rows in logs:
        try:
            found.append(run(rows, own, pairs, seed, scratch))
        except RuntimeError as error:
            raise fail(str(error)) from error
        STDERR.print(told(found[-1]), soft_wrap=True)
    measured = study(
        "ingest",
        watch,
        [figure for one in found for figure in one.figures()],
        conditions={"logs": tuple(f"{own}/{rows}" for own, rows in logs), "seed": seed},
        settings={"pairs": pairs},
        details={"logs": [one.document() for one in found]},
        packages=("polars", "pyarrow", "numpy"),
    )
    end(measured, out, "ingest", as_json)


def told(found: Found) -> str:
    """In a sentence."""
    speed, cpu = Spread.of_ratios(found.speeds), Spread.of_ratios(found.cpus)
    return (
        f"{found.events:,} events ({found.kind}, {found.log_bytes / 1e9:.2f} GB): {speed.median:.2f} of the peer's "
        f"speed ({speed.least:.2f} to {speed.most:.2f} in {speed.n} pairs), {cpu.median:.2f} by CPU time; peak memory "
        f"{max(once.memory for once in found.ours) / 1e9:.2f} GB, the peer's "
        f"{max(once.memory for once in found.peer) / 1e9:.2f} GB"
    )
