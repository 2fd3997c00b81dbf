"""Tiny datasets of the site that `tests.tiny` bundles are about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa

from browsing.logistic import Feature
from browsing.pages import PageRules
from browsing.returns import ReturnModel, feature_names
from tests import tiny
from training.dataset import (
    RETURNS_SCHEMA,
    Counts,
    Dataset,
    DatasetInfo,
    DatasetWriter,
    ReturnsInfo,
    Sample,
    Source,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF = datetime(2026, 1, 21, tzinfo=UTC)


def sample(user: str, sessions: Sequence[Sequence[str]]) -> Sample:
    """The last of the sessions is the next one; one session a day."""
    days = [START + timedelta(days=day) for day in range(len(sessions))]
    *history, following = (tuple(session) for session in sessions)
    return Sample(user, tuple(history), tuple(days[:-1]), following, days[-1])


def return_model() -> ReturnModel:
    """log(p / (1 - p)) = -0.6 + 1.2 log(visits) - 0.4 log(1 + pages of the last)."""
    weights = {"log_visits": 1.2, "log_pages_of_last": -0.4}
    return ReturnModel(
        lookback_days=20.0,
        as_of=AS_OF.isoformat(),
        outcomes=("cart", "purchase"),
        features=tuple(
            Feature(name=name, low=-10.0, high=30.0, mean=0.0, scale=1.0, weight=weights.get(name, 0.0))
            for name in feature_names(("cart", "purchase"))
        ),
        intercept=-0.6,
        users=1000,
        returned=500,
    )


def visitor(sessions: Sequence[Sequence[str]], *after: Sequence[str]) -> dict[str, object]:
    """A row of `returns.parquet`: a test user with a session a day, the newest a day before `AS_OF`, and what followed
    within the week."""
    held = [[name for name in ("cart", "purchase") if f"/{name}" in session] for session in (*sessions, *after)]
    before, later = held[: len(sessions)], held[len(sessions) :]
    return {
        "split": "test",
        "as_of": AS_OF,
        "started_at": [AS_OF - timedelta(days=day) for day in range(len(sessions), 0, -1)],
        "pages": [len(session) for session in sessions],
        "outcomes": before,
        "returned": bool(after),
        "sessions": [list(session) for session in sessions],
        "first_outcomes": later[0] if later else [],
        "any_outcomes": sorted({name for own in later for name in own}),
    }


def write_dataset(
    root: Path,
    test: Sequence[Sample],
    rules: PageRules | None = None,
    returns: Sequence[dict[str, object]] | None = None,
) -> Dataset:
    """A complete dataset over the six pages, with nobody but test users. `returns`: of `visitor`."""
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
        returns=None
        if returns is None
        else ReturnsInfo(
            lookback_days=20,
            as_of={"test": AS_OF.isoformat()},
            users=len(returns),
            returned=sum(bool(row["returned"]) for row in returns),
        ),
    )
    with DatasetWriter(root, returns=returns is not None) as writer:
        if returns is not None:
            writer.add_returns(pl.DataFrame(pa.Table.from_pylist(list(returns), RETURNS_SCHEMA)))
        writer.add("test", test)
        writer.finish(pages, rules, info)
    return Dataset.load(root)
