"""Pages become tokens by exact counts, however the counting was cut up."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from browsing.pages import PageRules
from training.ingest import vocabulary
from training.ingest.settings import Filters
from training.ingest.vocabulary import PageCounter, Pages

PARTS: tuple[list[tuple[str, int, int]], ...] = (
    [("/a", 10, 3), ("/b", 4, 4), ("/cart", 1, 1), ("/c", 2, 2)],
    [("/a", 1, 1), ("/b", 7, 1), ("/account/ann@mail.example", 90, 1)],
    [],
    [("/a", 1, 1), ("/c", 9, 3)],
)


def choose(
    directory: Path, filters: Filters, rules: PageRules | None = None, age: dict[str, float] | None = None
) -> Pages:
    """`age`: half-lives that have passed since a page's views."""
    counter = PageCounter(directory / "pages")
    for rows in PARTS:
        counts = pl.DataFrame(rows, schema={"page": pl.String, "views": pl.Int64, "users": pl.Int64}, orient="row")
        passed = pl.col("page").replace_strict(age or {"": 0.0}, default=0.0, return_dtype=pl.Float64)
        counter.add(counts.with_columns(fresh=pl.col("views") * 0.5**passed))
    return counter.choose(rules or PageRules(), filters)


@pytest.mark.parametrize("bucket", [2_000_000, 1])
def test_limits_and_order(tmp_path: Path, bucket: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_BUCKET_ROWS", bucket)
    pages = choose(tmp_path, Filters(min_users=5))
    assert pages.table.rows() == [
        ("/cart", "cart", 1, 1),  # an outcome is a token if it was seen at all
        ("/a", "page", 12, 5),
        ("/b", "page", 11, 5),
        ("/c", "page", 11, 5),
    ]
    assert (pages.seen, pages.views) == (5, 125)
    assert pages.unknown_share == pytest.approx(90 / 125)


def test_views_and_size(tmp_path: Path) -> None:
    pages = choose(tmp_path, Filters(min_users=1, min_views=12))
    assert pages.table["page"].to_list() == ["/cart", "/account/ann@mail.example", "/a"]
    (tmp_path / "again").mkdir()
    pages = choose(tmp_path / "again", Filters(min_users=2, max_pages=2))
    assert pages.table["page"].to_list() == ["/cart", "/a"]


def test_what_was_viewed_long_ago_gives_way(tmp_path: Path) -> None:
    """12 views of /a, 11 of /b two half-lives ago, and 11 of /c."""
    filters = Filters(min_users=2, max_pages=3, page_half_life=2)
    pages = choose(tmp_path, filters, age={"/b": 2.0})
    assert pages.table["page"].to_list() == ["/cart", "/a", "/c"]
    assert pages.table["views"].to_list() == [1, 12, 11], "what is stored are the views themselves"


def test_a_log_without_outcomes(tmp_path: Path) -> None:
    pages = choose(tmp_path, Filters(min_users=5), PageRules(outcomes={}))
    assert pages.table["page"].to_list() == ["/a", "/b", "/c"]
    assert pages.table["kind"].unique().to_list() == ["page"]


def test_nothing_was_seen(tmp_path: Path) -> None:
    pages = PageCounter(tmp_path / "pages").choose(PageRules(), Filters())
    assert pages.table.is_empty()
    assert pages.unknown_share == 0.0
