"""A small dataset of two kinds of visitors, written with the real writer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from browsing.pages import PageRules
from training.dataset import Counts, Dataset, DatasetInfo, DatasetWriter, ReturnsInfo, Sample, Source, Split

PAGES = ("/cart", "/purchase", "/", "/bags", "/bags/tote", "/bags/mini", "/shoes", "/shoes/boot")
MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
LOOKBACK_DAYS = 20.0


def sample(user: int, kind: int, generator: np.random.Generator) -> Sample:
    """Kind 0 walks forward through the pages, kind 1 backward; two to four sessions."""
    sessions = []
    for _ in range(int(generator.integers(2, 5))):
        start, length = int(generator.integers(len(PAGES))), int(generator.integers(1, 5))
        step = 1 if kind == 0 else -1
        sessions.append(tuple(PAGES[(start + step * i) % len(PAGES)] for i in range(length)))
    times = tuple(MONDAY + timedelta(days=i) for i in range(len(sessions)))
    return Sample(f"u{user}", tuple(sessions[:-1]), times[:-1], sessions[-1], times[-1])


def visitors(counts: dict[Split, int], seed: int = 0) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """Rows of `returns.parquet` and the true chance of each: up to four visits, the last d days ago, where
    log(p / (1 - p)) = 1.5 - 1.2 log(d + 1/24) + [a cart in the last visit]. What they saw and then did is not known."""
    generator = np.random.default_rng(seed)
    names = pl.List(pl.String)
    rows, chances = [], []
    for split, count in counts.items():
        for _ in range(count):
            n = int(generator.integers(1, 5))
            ages = np.sort(generator.uniform(0, LOOKBACK_DAYS, n))[::-1]
            held = [["cart"] * int(generator.integers(2)) for _ in range(n)]
            score = 1.5 - 1.2 * np.log(ages[-1] + 1 / 24) + len(held[-1])
            chances.append(1 / (1 + np.exp(-score)))
            times = [MONDAY - timedelta(days=float(age)) for age in ages]
            pages = generator.integers(1, 9, n).tolist()
            rows.append((split, MONDAY, times, pages, held, bool(generator.random() < chances[-1])))
    columns = ("split", "as_of", "started_at", "pages", "outcomes", "returned")
    frame = pl.DataFrame(
        {name: pl.Series(name, [row[i] for row in rows], strict=False) for i, name in enumerate(columns)},
        schema_overrides={"outcomes": pl.List(names)},
    )
    unknown = {"sessions": pl.List(names), "first_outcomes": names, "any_outcomes": names}
    return frame.with_columns(pl.lit(None, own).alias(name) for name, own in unknown.items()), np.array(chances)


def write(root: Path, train: int = 60, held: int = 20, seed: int = 0, returns: pl.DataFrame | None = None) -> Dataset:
    """`train` training users, and `held` in each of the other splits. `returns`: the rows of `returns.parquet`."""
    generator = np.random.default_rng(seed)
    root.mkdir(parents=True)
    counts: dict[Split, int] = {"train": train, "select": held, "calibrate": held, "test": held}
    users = iter(range(sum(counts.values())))
    rules = PageRules()
    kinds = ["cart", "purchase"] + ["page"] * (len(PAGES) - 2)
    pages = pl.DataFrame({"page": PAGES, "kind": kinds, "views": [100] * len(PAGES), "users": [50] * len(PAGES)})
    total = sum(counts.values())
    info = DatasetInfo(
        source=Source(format="events", files=()),
        settings={},
        filters={"min_users": 5},
        counts=Counts(
            rows=total,
            bad_rows={},
            not_views=0,
            events=total,
            users=total,
            sessions=total,
            short_sessions=0,
            long_sessions=0,
            eligible_users=total,
            sampled_users=total,
            samples=counts,
            pages=len(PAGES),
            pages_seen=len(PAGES),
            unknown_share=0.0,
        ),
        split="user",
        window_start=MONDAY.isoformat(),
        window_end=(MONDAY + timedelta(days=5)).isoformat(),
        rule_version=rules.version,
        returns=None
        if returns is None
        else ReturnsInfo(
            lookback_days=LOOKBACK_DAYS,
            as_of=dict.fromkeys(counts, MONDAY.isoformat()),
            users=returns.height,
            returned=int(returns["returned"].sum()),
        ),
    )
    with DatasetWriter(root, returns=returns is not None) as writer:
        if returns is not None:
            writer.add_returns(returns)
        for split, count in counts.items():
            writer.add(split, [sample(u, u % 2, generator) for u, _ in zip(users, range(count), strict=False)])
        writer.finish(pages, rules, info)
    return Dataset.load(root)
