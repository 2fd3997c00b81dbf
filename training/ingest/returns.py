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
    rows = sessions.select("started", "length", "pages", pl.col("user").rle_id(), _outcomes(sessions, outcomes))
    rows = rows.with_columns(as_of, pl.Series("split", SPLITS).gather(whose.split), lot=whose.lot).filter(
        pl.col("lot") <= pl.lit(threshold, dtype=pl.UInt64),
        started >= reference - windows.lookback,
        started < reference + HORIZON_DAYS * DAY,
    )
    moment = pl.Datetime("us", "UTC")
    before = rows.filter(started < reference)
    visits = before.group_by("user", maintain_order=True).agg(
        pl.col("split").first(),
        reference.first().cast(moment),
        started.cast(moment).alias("started_at"),
        pl.col("length").cast(pl.Int32).alias("pages"),
        pl.col("outcomes"),
    )
    tested = before.filter(pl.col("split") == "test").filter(_read(history_tokens))
    seen = tested.group_by("user").agg(pl.col("pages").list.tail(history_tokens - 3).alias("sessions"))
    after = rows.filter(started >= reference).group_by("user")
    came = after.agg(
        pl.col("outcomes").first().alias("first_outcomes"),
        pl.col("outcomes").explode(empty_as_null=False, keep_nulls=False).unique(maintain_order=True).alias("any"),
    )
    joined = visits.join(seen, on="user", how="left", maintain_order="left")
    joined = joined.join(came, on="user", how="left", maintain_order="left")
    return joined.select(
        *("split", "as_of", "started_at", "pages", "outcomes"),
        pl.col("first_outcomes").is_not_null().alias("returned"),
        "sessions",
        pl.col("first_outcomes").fill_null([]),
        pl.col("any").fill_null([]).alias("any_outcomes"),
    )


def _read(tokens: int) -> pl.Expr:
    """Whether a visit is of the user's newest that fit into a prompt of `tokens`, the next session's `[BOS]` being one
    of them; the newest is read in any case."""
    own = pl.col("length").cast(pl.Int64) + 2
    taken = own.cum_sum(reverse=True).over("user")
    return (taken <= tokens - 1) | (taken == own)


def _outcomes(sessions: pl.DataFrame, outcomes: Mapping[str, Sequence[str]]) -> pl.Series:
    """The names of the outcomes that each session holds, list<str> [n]."""
    if not outcomes:
        return pl.Series("outcomes", [[]] * sessions.height, dtype=pl.List(pl.String))
    pages = sessions["pages"].explode(empty_as_null=False, keep_nulls=False)
    session = np.repeat(np.arange(sessions.height), sessions["pages"].list.len().to_numpy())
    held = pl.DataFrame({name: np.zeros(sessions.height, dtype=bool) for name in outcomes})
    for name, own in outcomes.items():
        there = np.zeros(sessions.height, dtype=bool)
        there[session[pages.is_in(list(own)).to_numpy()]] = True
        held = held.with_columns(pl.Series(name, there))
    names = pl.concat_list(pl.when(name).then(pl.lit(name)) for name in outcomes).list.drop_nulls()
    return held.select(names.alias("outcomes")).to_series()
