"""`rees46`: shop logs of REES46. The category is the page: `electronics.smartphone` becomes `/electronics/smartphone`.

Products without a category's name keep its number, `/category/<id>`. Sessions are given (`user_session`).
"""

import polars as pl

from browsing.pages import OutcomeRule, PageRules
from training.ingest.format import Format


def _categories(frame: pl.DataFrame) -> pl.DataFrame:
    named = pl.lit("/") + pl.col("page").str.replace_all(".", "/", literal=True)
    return frame.with_columns(pl.coalesce(named, pl.lit("/category/") + pl.col("category")).alias("page"))


REES46 = Format(
    name="rees46",
    rules=PageRules(
        source="url",
        fold=(),
        outcomes={
            "cart": OutcomeRule(page="/cart", events=("cart",)),
            "purchase": OutcomeRule(page="/purchase", events=("purchase",)),
        },
        view_events=("view",),
    ),
    columns={
        "user": ("user_id",),
        "time": ("event_time",),
        "page": ("category_code",),
        "session": ("user_session",),
        "event": ("event_type",),
    },
    extra={"category": ("category_id",)},
    events=_categories,
)
