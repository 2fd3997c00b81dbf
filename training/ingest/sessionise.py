"""Page views to sessions for many users at once: the same sessions as `browsing.sessions.sessions_of`, in polars."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from browsing.pages import PageRules
from training.dataset import CONTEXT
from training.ingest.parse import coded


def sessionise(views: pl.DataFrame, rules: PageRules) -> pl.DataFrame:
    """Sessions of all users: `user, started (us since 1970), pages (list), length`, and context columns.

    `views` has the columns `user, time (us), page, session (null: unnamed)` in the log's order. Rows are ordered by
    user and, within one, as `sessions_of` orders them. Not filtered by length: the upper limit may depend on all
    sessions. A context column holds the session's first value that is not null.
    """
    gap = timedelta(minutes=rules.session_gap_minutes) // timedelta(microseconds=1)
    context = [name for name in CONTEXT if name in views.columns]
    ordered, names = _ordered(views)
    unnamed = pl.col("session").is_null()
    # Pauses are measured between unnamed views alone; a named session may lie in between.
    if ordered["session"].null_count() == ordered.height:
        pause = (pl.col("time") - pl.col("time").shift() > gap) | (pl.col("u") != pl.col("u").shift())
        ordered = ordered.drop("session").with_columns(pause.fill_null(False).cum_sum().alias("s"))
    else:
        runs = ordered.with_row_index("i").filter(unnamed)
        pause = (pl.col("time") - pl.col("time").shift() > gap).fill_null(False)
        runs = runs.select("i", pause.cum_sum().over("u").alias("run"))
        ordered = ordered.with_row_index("i").join(runs, on="i", how="left", maintain_order="left")
        # One number per session, in the order of first views, and the views of each together.
        first = pl.col("i").first().over("u", "session", "run")
        ordered = ordered.with_columns(first.alias("s")).sort("s", maintain_order=True)
    if rules.collapse_repeats:
        same = (pl.col("page") == pl.col("page").shift()) & (pl.col("s") == pl.col("s").shift())
        kept = ordered.with_columns(same.fill_null(False).alias("same"))
        if context:  # a repeated view may be the one that has the context
            kept = kept.with_columns(pl.col(name).drop_nulls().first().over("s") for name in context)
        ordered = kept.filter(~pl.col("same"))
    sessions = (
        ordered.group_by("s", maintain_order=True)
        .agg(
            pl.col("u").first(),
            pl.col("time").first().alias("started"),
            pl.col("page").alias("pages"),
            pl.len().cast(pl.Int64).alias("length"),
            *(pl.col(name).drop_nulls().first() for name in context),
        )
        .drop("s")
    )
    return sessions.select(names.gather(sessions["u"]).alias("user"), pl.exclude("u"))


def _ordered(views: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """By user and time, views of equal time in the log's order, `u` numbering the users in place of `user`; and their
    names in that order.

    Strings are slow to compare and to move: users are sorted once each, and views by one number that holds both.
    """
    names, user = coded(views["user"])
    order = names.arg_sort()
    rank = np.empty(len(names), dtype=np.int64)
    rank[order.to_numpy()] = np.arange(len(names))
    u, time = rank[user], views["time"].to_numpy()
    first, span = (int(time.min()), int(time.max()) - int(time.min()) + 1) if len(time) else (0, 1)
    if len(names) * span < 2**63:
        places = np.argsort(u * span + (time - first), kind="stable")
    else:
        places = np.lexsort((time, u))
    ordered = views.select(pl.exclude("user").gather(pl.Series(places, dtype=pl.UInt32)))
    return ordered.with_columns(pl.Series("u", u[places], dtype=pl.UInt32)), names.gather(order)
