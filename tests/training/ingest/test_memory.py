"""Memory does not grow with the log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

GROWTH = 450 << 20
"""Bytes that three times the log may take more. Sorting what is more of it in memory takes more than twice that.

The smaller log fills most of what grows up to a bound: the few batches and parts in memory at a time, and the million
rows that are spilled together. How many of them meet in memory depends on the threads' timing.
"""

MEASURED = """
import typer
from training.ingest.command import ingest
app = typer.Typer()
app.command()(ingest)
app(standalone_mode=False)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def write(path: Path, rows: int) -> None:
    random = np.random.default_rng(0)
    user = random.integers(0, rows // 20, rows)
    frame = pl.DataFrame(
        {
            "user": user,
            "page": random.zipf(1.3, rows) % 5000,
            "click": random.integers(0, 2**40, rows),
            "time": 1_767_225_600_000 + np.arange(rows) * (30 * 86_400_000 // rows),
        }
    )
    frame.select(
        pl.format("visitor-{}", "user").alias("client_id"),
        pl.format("https://shop.example/c{}/item-{}?gclid={}", pl.col("page") % 50, "page", "click").alias("page_url"),
        pl.from_epoch("time", time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").alias("timestamp"),
        pl.lit("{'a filler': 'that nobody reads'}").alias("event_data"),
    ).write_csv(path)


def peak(log: Path, out: Path) -> int:
    """Bytes. Not by `getrusage`, whose maximum a child inherits from its parent."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, str(log), "--out", str(out)], capture_output=True, text=True, check=True
    )
    return int(run.stdout) * 1024


def test_three_times_the_log_in_hardly_more_memory(tmp_path: Path) -> None:
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    write(small, 1_300_000)
    write(large, 3_900_000)
    assert large.stat().st_size > 450e6
    before, after = peak(small, tmp_path / "a"), peak(large, tmp_path / "b")
    print(f"{before / 2**20:.0f} MiB, {after / 2**20:.0f} MiB for three times the log")
    assert after - before < GROWTH
