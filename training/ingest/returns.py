"""Who came back within a week: every user with a visit before a reference time, those that never returned among them.

The sample files hold only users with a next session, so nothing about returning can be learnt from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from training.dataset import HORIZON_DAYS, SPLITS, Split
from training.ingest.samples import Draws
from training.ingest.settings import Filters

HOUR = 3_600_000_000
DAY = 24 * HOUR
"""Microseconds, as all times here."""
EDGE_SHARE = 0.01
"""So many of the sessions may lie before the time at which the log is said to begin, and after its end: real logs have
stragglers, weeks from all others, and before the log's real end all sessions must have been recorded."""
MIN_LOOKBACK = 3 * DAY
"""With less to look back on there is no model of returning."""


@dataclass(frozen=True, slots=True)
class Windows:
    """`as_of`: each split's reference time, a split without one left out; `lookback`: how far back visits are kept."""

    as_of: Mapping[Split, int]
    lookback: int

    def described(self) -> tuple[dict[Split, str], float]:
        """The reference times in ISO 8601, and the lookback in days."""
        origin = datetime(1970, 1, 1, tzinfo=UTC)
        times = {split: (origin + timedelta(microseconds=at)).isoformat() for split, at in self.as_of.items()}
        return times, self.lookback / DAY


def windows(hours: Mapping[int, int], filters: Filters) -> Windows | None:
    """The reference times of a log whose sessions begin in `hours` (hours since 1970 -> sessions).

    The week that is asked about is the log's last. With a split by time the users that do not test have theirs before
    `split_at`, and those that test have the last week if it begins no earlier, else none. None: the log is too short.
    """
    if not hours:
        return None
    order = sorted(hours)
    share = np.cumsum([hours[hour] for hour in order]) / sum(hours.values())
    start = order[int(np.searchsorted(share, EDGE_SHARE))] * HOUR
    end = order[int(np.searchsorted(share, 1 - EDGE_SHARE))] * HOUR
    last = end - HORIZON_DAYS * DAY
    as_of = dict.fromkeys(SPLITS, last)
    if filters.split_at is not None:
        split_at = (filters.split_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        early = min(last, split_at - HORIZON_DAYS * DAY)
        as_of = {split: last if split == "test" else early for split in SPLITS if split != "test" or last >= split_at}
    lookback = as_of["train"] - start
    return Windows(as_of, lookback) if lookback >= MIN_LOOKBACK else None


def returns(
    sessions: pl.DataFrame, whose: Draws, threshold: int, windows: Windows, outcomes: Mapping[str, Sequence[str]]
) -> pl.DataFrame:
    """One row per user with a visit in the lookback, in the columns of `training.dataset.RETURNS_SCHEMA`.

    `sessions`: of users with all of theirs, oldest first; `whose`: of each session's user [n]. Users whose sampling
    number is above `threshold` are left out: the same draw as for the samples, over all users instead of those with a
    next session. `outcomes`: the pages of each.
    """
    as_of = pl.Series("as_of", [windows.as_of.get(split) for split in SPLITS], dtype=pl.Int64).gather(whose.split)
    started, reference = pl.col("started"), pl.col("as_of")
    rows = sessions.select("user", "started", "length", "pages").with_columns(
        as_of, pl.Series("split", SPLITS).gather(whose.split), lot=whose.lot
    )
    rows = rows.filter(
        pl.col("lot") <= pl.lit(threshold, dtype=pl.UInt64),
        started >= reference - windows.lookback,
        started < reference + HORIZON_DAYS * DAY,
    )
    before = started < reference
    moment = pl.Datetime("us", "UTC")
    users = rows.with_columns(_outcomes(outcomes)).group_by("user", maintain_order=True)
    return (
        users.agg(
            pl.col("split").first(),
            reference.first().cast(moment),
            started.filter(before).cast(moment).alias("started_at"),
            pl.col("length").filter(before).cast(pl.Int32).alias("pages"),
            pl.col("outcomes").filter(before),
            before.not_().any().alias("returned"),
        )
        .filter(pl.col("started_at").list.len() > 0)
        .drop("user")
    )


def _outcomes(outcomes: Mapping[str, Sequence[str]]) -> pl.Expr:
    """The names of the outcomes that a session holds, list<str>."""
    held = [
        pl.when(pl.any_horizontal(pl.col("pages").list.contains(page) for page in pages)).then(pl.lit(name))
        for name, pages in outcomes.items()
    ]
    names = pl.concat_list(held).list.drop_nulls() if held else pl.lit([], dtype=pl.List(pl.String))
    return names.alias("outcomes")
