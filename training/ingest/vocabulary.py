"""Which pages become tokens, counted part by part in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from browsing.pages import PageRules
from training.ingest.settings import Filters

_BUCKET_ROWS = 2_000_000


@dataclass(frozen=True, slots=True)
class Pages:
    """`table`: page, kind, views, users of the vocabulary, in its order. The counts are of all pages that were seen."""

    table: pl.DataFrame
    seen: int
    views: int

    @property
    def unknown_share(self) -> float:
        """Share of the views whose page the vocabulary lacks."""
        return 1 - int(self.table["views"].sum()) / self.views if self.views else 0.0


class PageCounter:
    """Adds up page counts of parts that share no user, so that sums of distinct users are exact."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._rows = 0
        self._parts = 0

    def add(self, counts: pl.DataFrame) -> None:
        """`counts`: page, views, users, fresh (weighted views)."""
        if counts.is_empty():
            return
        counts.write_parquet(self._directory / f"{self._parts}.parquet", compression="lz4")
        self._parts += 1
        self._rows += counts.height

    def choose(self, rules: PageRules, filters: Filters) -> Pages:
        """Outcome pages that were seen at all, then the pages above the limits by weighted views, which are the views
        themselves where no half-life is set (ties by name)."""
        kinds = {page: name for name, pages in rules.outcome_pages().items() for page in pages}
        buckets = max(1, -(-self._rows // _BUCKET_ROWS))
        kept: list[pl.DataFrame] = []
        seen = views = 0
        for bucket in range(buckets if self._parts else 0):
            counts = (
                pl.scan_parquet(self._directory / "*.parquet")
                .filter(pl.col("page").hash(seed=0) % buckets == bucket)
                .group_by("page")
                .agg(pl.col("views", "users", "fresh").sum())
                .collect(engine="streaming")
            )
            seen += counts.height
            views += int(counts["views"].sum())
            known = (pl.col("users") >= filters.min_users) & (pl.col("views") >= filters.min_views)
            kept.append(counts.filter(pl.col("page").is_in(list(kinds)) | known))
        schema = {"page": pl.String, "views": pl.Int64, "users": pl.Int64, "fresh": pl.Float64}
        table = pl.concat([pl.DataFrame(schema=schema), *kept]).with_columns(
            pl.col("page").replace_strict(kinds, default="page", return_dtype=pl.String).alias("kind"),
            pl.col("page").replace_strict(list(kinds), range(len(kinds)), default=len(kinds)).alias("rank")
            if kinds
            else pl.lit(0).alias("rank"),
        )
        # Sums of floats depend on the order of the parts in their last digits, which must not order the pages.
        table = table.with_columns(pl.col("fresh").round(6))
        order = table.sort("rank", "fresh", "page", descending=[False, True, False])
        outcomes = order.filter(pl.col("kind") != "page").height
        if filters.max_pages is not None:
            order = order.head(max(outcomes, filters.max_pages))
        return Pages(order.select("page", "kind", "views", "users"), seen, views)
