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
from training.ingest.times import DAY, HOUR, micros

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
    `split_at` (training users before `select_at`, where there is one), and those that test have the last week if it
    begins no earlier, else none. None: the log is too short.
    """
    if not hours:
        return None
    start, end = _quantile(hours, EDGE_SHARE), _quantile(hours, 1 - EDGE_SHARE)
    last = end - HORIZON_DAYS * DAY
    as_of = dict.fromkeys(SPLITS, last)
    if filters.split_at is not None:
        split_at = micros(filters.split_at)
        early = min(last, split_at - HORIZON_DAYS * DAY)
        as_of = {split: last if split == "test" else early for split in SPLITS if split != "test" or last >= split_at}
        if filters.select_at is not None:
            as_of["train"] = min(last, micros(filters.select_at) - HORIZON_DAYS * DAY)
    lookback = as_of["train"] - start
    return Windows(as_of, lookback) if lookback >= MIN_LOOKBACK else None


def learnt_until(hours: Mapping[int, int], filters: Filters) -> int:
    """When the training users' part of the log ends: at `select_at`, or else `split_at`, or where the log does but for
    stragglers."""
    ends = filters.select_at or filters.split_at
    if ends is not None:
        return micros(ends)
    return _quantile(hours, 1 - EDGE_SHARE) if hours else 0


def _quantile(hours: Mapping[int, int], share: float) -> int:
    """The hour, in microseconds, by which that share of the sessions has begun."""
    order = sorted(hours)
    shares = np.cumsum([hours[hour] for hour in order]) / sum(hours.values())
    return order[int(np.searchsorted(shares, share))] * HOUR


def returns(
    sessions: pl.DataFrame,
    whose: Draws,
    threshold: int,
    windows: Windows,
    outcomes: Mapping[str, Sequence[str]],
    history_tokens: int,
) -> pl.DataFrame:
    """One row per user with a visit in the lookback, in the columns of `training.dataset.RETURNS_SCHEMA`.

    `sessions`: of users with all of theirs, oldest first; `whose`: of each session's user [n]. Users whose sampling
    number is above `threshold` are left out: the same draw as for the samples, over all users instead of those with a
    next session. `outcomes`: the pages of each. `history_tokens`: what the pages of a test user's visits may take in a
    prompt; older visits are left out, as of a sample's history.
    """
    as_of = pl.Series("as_of", [windows.as_of.get(split) for split in SPLITS], dtype=pl.Int64).gather(whose.split)
    started, reference = pl.col("started"), pl.col("as_of")
    rows = sessions.select("user", "started", "length", "pages").with_columns(
        as_of, pl.Series("split", SPLITS).gather(whose.split), lot=whose.lot
    )
    before = started < reference
    rows = rows.filter(
        pl.col("lot") <= pl.lit(threshold, dtype=pl.UInt64),
        started >= reference - windows.lookback,
        started < reference + HORIZON_DAYS * DAY,
    )
    moment = pl.Datetime("us", "UTC")
    later = pl.col("outcomes").filter(before.not_())
    users = rows.with_columns(_outcomes(outcomes), _read(before, history_tokens)).group_by("user", maintain_order=True)
    return (
        users.agg(
            pl.col("split").first(),
            reference.first().cast(moment),
            started.filter(before).cast(moment).alias("started_at"),
            pl.col("length").filter(before).cast(pl.Int32).alias("pages"),
            pl.col("outcomes").filter(before),
            before.not_().any().alias("returned"),
            pl.col("pages").list.tail(history_tokens - 3).filter("read").alias("sessions"),
            later.first().fill_null([]).alias("first_outcomes"),
            later.explode(empty_as_null=False, keep_nulls=False).unique(maintain_order=True).alias("any_outcomes"),
        )
        .filter(pl.col("started_at").list.len() > 0)
        .with_columns(pl.when(pl.col("split") == "test").then("sessions"))
        .drop("user")
    )


def _read(before: pl.Expr, tokens: int) -> pl.Expr:
    """Whether a session is of the user's newest `before` that fit into a prompt of `tokens`, the next session's `[BOS]`
    being one of them; the newest is read in any case."""
    taken = pl.when(before).then(pl.col("length").cast(pl.Int64) + 2).otherwise(0).cum_sum(reverse=True).over("user")
    newest = before & (taken == pl.col("length").cast(pl.Int64) + 2)
    return (before & ((taken <= tokens - 1) | newest)).alias("read")


def _outcomes(outcomes: Mapping[str, Sequence[str]]) -> pl.Expr:
    """The names of the outcomes that a session holds, list<str>."""
    held = [
        pl.when(pl.any_horizontal(pl.col("pages").list.contains(page) for page in pages)).then(pl.lit(name))
        for name, pages in outcomes.items()
    ]
    names = pl.concat_list(held).list.drop_nulls() if held else pl.lit([], dtype=pl.List(pl.String))
    return names.alias("outcomes")
