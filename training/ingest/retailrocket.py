"""`retailrocket`: events of RetailRocket's shop. An item is a page; `addtocart` and `transaction` are the outcomes."""

import polars as pl

from browsing.pages import OutcomeRule, PageRules
from training.ingest.format import Format


def _items(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(page=pl.lit("/item/") + pl.col("page"))


RETAILROCKET = Format(
    name="retailrocket",
    rules=PageRules(
        source="url",
        fold=(),
        outcomes={
            "cart": OutcomeRule(page="/cart", events=("addtocart",)),
            "purchase": OutcomeRule(page="/purchase", events=("transaction",)),
        },
        view_events=("view",),
    ),
    columns={"user": ("visitorid",), "time": ("timestamp",), "page": ("itemid",), "event": ("event",)},
    time_unit="ms",
    events=_items,
)
