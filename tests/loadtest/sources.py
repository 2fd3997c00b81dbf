"""A bundle's directory and a dataset's test split, as far as the load test reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from browsing.vocabulary import Vocabulary
from tests.loadtest.fake import PAGES, VERSION

FIRST = datetime(2026, 2, 1, tzinfo=UTC)


def bundle(root: Path, pages: Sequence[str] = PAGES, version: str = VERSION) -> Path:
    directory = root / "predictors" / "cluster-0"
    directory.mkdir(parents=True)
    Vocabulary(pages).save(directory)
    (root / "manifest.json").write_text(json.dumps({"version": version, "schema_version": 1}))
    return root


def dataset(root: Path, users: int = 40, *, sessions: int = 2) -> Path:
    """User u came again u**1.5 minutes after the first; the history holds a page that nobody else saw."""
    root.mkdir()
    times = [[FIRST + timedelta(days=i) for i in range(sessions)]] * users
    frame = pl.DataFrame(
        {
            "user_id": [f"secret-{u}" for u in range(users)],
            "history": [[[f"/own/{u}", PAGES[(u + i) % len(PAGES)]] for i in range(sessions)] for u in range(users)],
            "history_started_at": times,
            "next_session": [["/"]] * users,
            "next_started_at": [FIRST + timedelta(days=30, minutes=u**1.5) for u in range(users)],
        }
    )
    frame.write_parquet(root / "test.parquet")
    return root
