"""Sessions to samples: which users go where, which sessions are targets, and how much history each target gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.dataset import CONTEXT, SPLITS, Split
from training.ingest.parse import coded
from training.ingest.settings import Filters
from training.ingest.times import DAY, micros


@dataclass(frozen=True, slots=True)
class Draws:
    """Of each user: the split (index into `SPLITS`, uint8), and the number by which users are sampled (uint64)."""

    split: NDArray[np.uint8]
    lot: NDArray[np.uint64]


def draw(users: Sequence[str], filters: Filters) -> Draws:
    """By hash of the seed and the user, so the same for a user whatever else the log holds.

    Test users are those whose number falls into the `test_fold`-th stretch of the length `test_share`: with a share of
    1/n the folds 0 to n - 1 test every user exactly once.
    """
    digests = b"".join(blake2b(f"{filters.seed}\0{user}".encode(), digest_size=24).digest() for user in users)
    numbers = np.frombuffer(digests, dtype="<u8").reshape(-1, 3)
    test, rest = numbers[:, 0] / 2.0**64, numbers[:, 1] / 2.0**64
    first = filters.test_fold * filters.test_share
    tested = (first <= test) & (test < first + filters.test_share)
    train, select, calibrate, held_out = (SPLITS.index(s) for s in ("train", "select", "calibrate", "test"))
    split = np.select(
        [tested, rest < filters.select_share, rest < filters.select_share + filters.calibrate_share],
        [held_out, select, calibrate],
        train,
    ).astype(np.uint8)
    return Draws(split, numbers[:, 2].astype(np.uint64))


class Part:
    """The sessions of some users (each with all of theirs, oldest first), and the targets among them.

    `sessions` is as `sessionise` returns it, filtered by length. A target is a session with one before it. With a
    split by time, targets of test users begin at `split_at` or later, those of all others before; and with a
    `select_at` those of training users begin before it, those of users that select or calibrate from then on. Of the
    sessions allowed so, a user's last `samples_per_user` are targets.
    """

    def __init__(self, sessions: pl.DataFrame, filters: Filters) -> None:
        self._sessions = sessions
        self._filters = filters
        n = sessions.height
        runs = sessions["user"].rle_id().to_numpy().astype(np.int64)
        self._first = np.flatnonzero(np.diff(runs, prepend=-1))
        """Row of each user's first session."""
        self._user = runs
        names = sessions["user"].gather(self._first).to_list()
        self._draws = draw(names, filters)
        allowed = np.arange(n) > self._first[runs] if n else np.zeros(0, bool)
        if filters.split_at is not None:
            started, split = sessions["started"].to_numpy(), self._draws.split[runs]
            allowed &= (started >= micros(filters.split_at)) == (split == SPLITS.index("test"))
            if filters.select_at is not None:
                late = started >= micros(filters.select_at)
                allowed &= late == (split != SPLITS.index("train"))
        count = np.cumsum(allowed)
        after_last = np.append(self._first[1:], n)
        from_end = np.repeat(count[after_last - 1], after_last - self._first) - count if n else count
        self._targets: NDArray[np.int64] = np.flatnonzero(allowed & (from_end < filters.samples_per_user))

    def whose(self) -> Draws:
        """Of each session's user, [n]."""
        return Draws(self._draws.split[self._user], self._draws.lot[self._user])

    def lots(self) -> NDArray[np.uint64]:
        """The sampling numbers of the users that have a target."""
        return self._draws.lot[np.unique(self._user[self._targets])]

    def keep(self, threshold: int) -> None:
        """Drop the targets of users whose sampling number is above `threshold`."""
        self._targets = self._targets[self._draws.lot[self._user[self._targets]] <= np.uint64(threshold)]

    def samples(self) -> dict[Split, pl.DataFrame]:
        """The samples of every split, in the columns of a sample file."""
        rows = self._targets
        start, cut = self._histories()
        spans = rows - start
        sample = np.repeat(np.arange(len(rows)), spans)
        offsets = np.cumsum(spans) - spans
        history = np.arange(len(sample)) - np.repeat(offsets, spans) + np.repeat(start, spans)
        before = self._sessions[history].with_columns(pl.Series("sample", sample))
        if cut.any():
            room = self._filters.max_history_tokens - 3
            long = pl.Series("cut", np.repeat(cut, spans))
            before = before.with_columns(long).with_columns(
                pl.when("cut").then(pl.col("pages").list.tail(room)).otherwise("pages").alias("pages")
            )
        context = [name for name in CONTEXT if name in before.columns]
        moment = pl.Datetime("us", "UTC")
        histories = before.group_by("sample", maintain_order=True).agg(
            pl.col("pages").alias("history"), pl.col("started").cast(moment).alias("history_started_at"), *context
        )
        target = self._sessions[rows].select(
            pl.col("user").alias("user_id"),
            pl.col("pages").alias("next_session"),
            pl.col("started").cast(moment).alias("next_started_at"),
        )
        whole = pl.concat([target, histories.drop("sample")], how="horizontal")
        split = self._draws.split[self._user[rows]]
        return {name: whole.filter(pl.Series(split == number)) for number, name in enumerate(SPLITS)}

    def page_counts(self, end: int) -> pl.DataFrame:
        """`page, views, users, fresh`: over the sessions that the samples hold of users who are not test users; with a
        `select_at`, of training users alone, for nothing later is known where training ends.

        `fresh`: the views, each weighted by how long before `end` (microseconds since 1970) its session began.
        """
        rows = self._targets
        start, _ = self._histories()
        split = self._draws.split[self._user[rows]]
        alone = self._filters.select_at is not None
        learnt = split == SPLITS.index("train") if alone else split != SPLITS.index("test")
        edge = np.zeros(self._sessions.height + 1, dtype=np.int64)
        np.add.at(edge, start[learnt], 1)
        np.add.at(edge, rows[learnt] + 1, -1)
        held = pl.Series(np.cumsum(edge[:-1]) > 0)
        pages = self._sessions.select("started", "pages", pl.Series("user", self._user)).filter(held)
        views = pages.explode("pages", empty_as_null=True, keep_nulls=True)
        names, page = coded(views["pages"])
        people = int(self._user[-1]) + 1 if len(self._user) else 1
        # One number for page and user: grouping by two columns, one of them strings, takes three times as long.
        both = pl.Series("both", page * people + views["user"].to_numpy())
        half_life = self._filters.page_half_life
        fresh = pl.len().cast(pl.Float64)
        if half_life is not None:
            fresh = (0.5 ** ((end - pl.col("started")).clip(lower_bound=0) / DAY / half_life)).sum()
        per_user = views.group_by(both).agg(pl.len().cast(pl.Int64).alias("views"), fresh.alias("fresh"))
        counts = per_user.group_by((pl.col("both") // people).alias("page")).agg(
            pl.col("views").sum(), pl.len().cast(pl.Int64).alias("users"), pl.col("fresh").sum()
        )
        return counts.with_columns(names.gather(counts["page"]).alias("page"))

    @property
    def users(self) -> int:
        """Users with a target."""
        return len(np.unique(self._user[self._targets]))

    def _histories(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Row of each target's oldest session of history, and whether that one alone is too long and must be cut.

        As `Vocabulary.prompt` cuts: whole sessions of `[BOS] pages [EOS]` before the target's `[BOS]`, newest first.
        """
        rows = self._targets
        room = self._filters.max_history_tokens - 1
        tokens = np.concatenate([[0], np.cumsum(self._sessions["length"].to_numpy() + 2)])
        fits = np.searchsorted(tokens, tokens[rows] - room, side="left")
        start = np.maximum(fits, self._first[self._user[rows]])
        cut = start >= rows
        return np.where(cut, rows - 1, start).astype(np.int64), cut
