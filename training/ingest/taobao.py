"""`taobao`: shoppers on Taobao. A category is a page; adding to the cart and buying are the outcomes.

Marking a favourite (`fav`) is no page view: the view it was done on is a row of its own.
"""

import polars as pl

from browsing.pages import OutcomeRule, PageRules
from training.ingest.format import Format


def _categories(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(page=pl.lit("/category/") + pl.col("page"))


TAOBAO = Format(
    name="taobao",
    rules=PageRules(
        source="url",
        fold=(),
        outcomes={
            "cart": OutcomeRule(page="/cart", events=("cart",)),
            "purchase": OutcomeRule(page="/purchase", events=("buy",)),
        },
        view_events=("pv",),
    ),
    columns={"user": ("user_id",), "time": ("timestamp",), "page": ("category_id",), "event": ("behavior",)},
    time_unit="s",
    events=_categories,
)
