"""Small inputs of benchmarks: a dataset as the load test reads it, and bundles of random weights over its pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from browsing.pages import PageRules
from loadtest.bench import bundles, workload
from loadtest.bench.predictors import Size
from loadtest.bench.workload import Workload

PAGES = ("/cart", "/purchase", "/", *(f"/page-{number}" for number in range(17)))
TINY = Size(hidden=64, layers=2, inner=96)
CONTEXT, MAX_STEPS = 64, 6


def dataset(root: Path, users: int = 24) -> Path:
    """Histories of one to four sessions, of one to five pages each."""
    root.mkdir()
    generator = np.random.default_rng(1)
    first = datetime(2026, 2, 1, tzinfo=UTC)
    histories = [
        [[PAGES[i] for i in generator.integers(0, len(PAGES), generator.integers(1, 6))] for _ in range(1 + user % 4)]
        for user in range(users)
    ]
    pl.DataFrame(
        {
            "user_id": [f"secret-{user}" for user in range(users)],
            "history": histories,
            "history_started_at": [[first + timedelta(days=i) for i in range(len(own))] for own in histories],
            "next_session": [["/"]] * users,
            "next_started_at": [first + timedelta(days=30)] * users,
        }
    ).write_parquet(root / "test.parquet")
    pl.DataFrame({"page": PAGES}).write_parquet(root / "pages.parquet")
    PageRules().save(root / "pages.json")
    return root


def work(root: Path, visitors: int = 12, samples: int = 4) -> Workload:
    """Of `dataset(root)`."""
    return workload.of_dataset(dataset(root), visitors).model_copy(update={"samples": samples})


def bundle(root: Path, asked: Workload, data: Path, clusters: int, *, size: Size = TINY) -> Path:
    spoken = bundles.language(data, context=CONTEXT, max_steps=MAX_STEPS)
    bundles.write(root, spoken, asked, clusters, size)
    return root
