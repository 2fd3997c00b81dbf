"""What a log format says about itself: where its columns are, and what its pages are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from browsing.pages import PageRules
from training.ingest.times import TimeUnit

FormatName = Literal["events", "globo", "wikispeedia", "taobao", "rees46", "retailrocket"]

REQUIRED = ("user", "time", "page")
OPTIONAL = ("session", "event", "device", "referrer", "country")
ROLES = (*REQUIRED, *OPTIONAL)
"""What a column can mean. A format may read columns of its own besides (`extra`)."""


def unchanged(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


@dataclass(frozen=True, slots=True)
class Format:
    """One log format.

    `columns` names the column of each role, with alternatives in order of preference; roles that are not named are
    guessed if `guess`, else absent. `events` turns a batch with one column per role (all strings but `time`, which is
    as in the file) and `row`, the row's position in its file, into one row per event of the same columns.
    """

    name: FormatName
    rules: PageRules
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    time_unit: TimeUnit = "auto"
    guess: bool = False
    header: tuple[str, ...] | None = None  # of files that have none
    events: Callable[[pl.DataFrame], pl.DataFrame] = unchanged
