"""Tiny datasets of the site that `tests.tiny` bundles are about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from browsing.pages import PageRules
from tests import tiny
from training.dataset import Counts, Dataset, DatasetInfo, DatasetWriter, Sample, Source

START = datetime(2026, 1, 1, tzinfo=UTC)


def sample(user: str, sessions: Sequence[Sequence[str]]) -> Sample:
    """The last of the sessions is the next one; one session a day."""
    days = [START + timedelta(days=day) for day in range(len(sessions))]
    *history, following = (tuple(session) for session in sessions)
    return Sample(user, tuple(history), tuple(days[:-1]), following, days[-1])


def write_dataset(root: Path, test: Sequence[Sample], rules: PageRules | None = None) -> Dataset:
    """A complete dataset over the six pages, with nobody but test users."""
    root.mkdir()
    rules = rules or PageRules()
    pages = pl.DataFrame(
        {
            "page": tiny.SIX_PAGES,
            "kind": ["cart", "purchase", "page", "page", "page", "page"],
            "views": [10] * 6,
            "users": [5] * 6,
        }
    )
    counts = Counts(
        rows=100,
        bad_rows={},
        not_views=0,
        events=100,
        users=len(test),
        sessions=sum(len(s.history) + 1 for s in test),
        short_sessions=0,
        long_sessions=0,
        eligible_users=len(test),
        sampled_users=len(test),
        samples={"train": 0, "select": 0, "calibrate": 0, "test": len(test)},
        pages=6,
        pages_seen=6,
        unknown_share=0.0,
    )
    info = DatasetInfo(
        source=Source(format="events", files=()),
        settings={},
        filters={},
        counts=counts,
        split="user",
        window_start=START.isoformat(),
        window_end=(START + timedelta(days=30)).isoformat(),
        rule_version=rules.version,
    )
    with DatasetWriter(root) as writer:
        writer.add("test", test)
        writer.finish(pages, rules, info)
    return Dataset.load(root)
