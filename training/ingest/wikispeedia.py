"""`wikispeedia`: people clicking from one Wikipedia article towards another. A game is a session, an article a page.

A game is one row with its articles joined by `;`. `<` is a click on "back": the visitor sees the article before once
more, so it becomes that article. All pages of a game carry the time at which it began.
"""

from urllib.parse import unquote

import polars as pl

from browsing.pages import OutcomeRule, PageRules
from training.ingest.format import Format


def articles(path: str) -> list[str]:
    """The articles of one game in the order in which they were seen, their names decoded.

    >>> articles("Bee;Honey;<;Flower")
    ['Bee', 'Honey', 'Bee', 'Flower']
    """
    seen: list[str] = []
    trail: list[str] = []
    for step in path.split(";"):
        if step == "<":
            if len(trail) > 1:
                trail.pop()
        elif step:
            trail.append(unquote(step))
        if trail:
            seen.append(trail[-1])
    return seen


def _games(frame: pl.DataFrame) -> pl.DataFrame:
    pages = frame["page"].map_elements(articles, return_dtype=pl.List(pl.String))
    game = pl.concat_str("time", pl.lit("-"), "row", ignore_nulls=True)
    views = frame.with_columns(pages.alias("page"), game.alias("session"))
    if "event" not in frame.columns:
        return views.explode("page", empty_as_null=True, keep_nulls=True)
    seen = views.explode("page", empty_as_null=True, keep_nulls=True).with_columns(event=pl.lit(None, pl.String))
    endings = views.filter(pl.col("event").is_not_null()).with_columns(page=pl.lit(None, pl.String))
    return pl.concat([seen, endings]).sort("row", maintain_order=True)


WIKISPEEDIA = Format(
    name="wikispeedia",
    rules=PageRules(source="name", fold=(), outcomes={}),
    columns={"user": ("hashedIpAddress",), "time": ("timestamp",), "page": ("path",)},
    time_unit="s",
    header=("hashedIpAddress", "timestamp", "durationInSec", "path", "target", "type"),
    events=_games,
)

WIKISPEEDIA_ENDINGS = Format(
    name="wikispeedia",
    rules=PageRules(
        source="name",
        fold=(),
        outcomes={
            "cart": OutcomeRule(page="/restart", events=("restart",)),
            "purchase": OutcomeRule(page="/timeout", events=("timeout",)),
        },
    ),
    columns={**WIKISPEEDIA.columns, "event": ("type",)},
    time_unit="s",
    header=WIKISPEEDIA.header,
    events=_games,
)
"""As a stand-in for outcomes: a game given up (`restart`) counts as the cart, one run out of time as the purchase."""
