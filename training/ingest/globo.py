"""`globo`: clicks on articles of the news portal Globo.com. Sessions are given; there is no cart and no purchase."""

import polars as pl

from browsing.pages import PageRules
from training.ingest.format import Format


def _articles(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(page=pl.lit("/article/") + pl.col("page"))


GLOBO = Format(
    name="globo",
    rules=PageRules(source="url", fold=(), outcomes={}),
    columns={
        "user": ("user_id",),
        "time": ("click_timestamp",),
        "page": ("click_article_id",),
        "session": ("session_id",),
        "device": ("click_deviceGroup",),
        "referrer": ("click_referrer_type",),
        "country": ("click_country",),
    },
    time_unit="ms",
    events=_articles,
)
