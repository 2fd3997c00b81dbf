"""From raw rows to page views: times read, page rules applied, and what cannot be used counted by reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from browsing.pages import PageError, PageRules
from training.ingest.abreast import abreast
from training.ingest.columns import role_frame
from training.ingest.format import Format
from training.ingest.readers import LogError, LogFile, Rows, batches
from training.ingest.times import microseconds

VIEWS = {"user": pl.String, "time": pl.Int64, "page": pl.String, "session": pl.String}
"""Columns of page views, plus the context columns that the log has. `session` is null where the log names none."""

NOBODY = ("null", "undefined", "none", "nan", "(not set)", "unknown")
"""What programs write where there is no user id, in any case; taken together they would be one huge visitor."""

_CACHED = 200_000
_HOPELESS = 10_000


@dataclass(slots=True)
class Fault:
    """One reason for leaving rows out: how many, and the first (its row in its file, its position in the whole log)."""

    rows: int
    file: Path
    row: int
    position: int
    column: str
    value: str | None


@dataclass(slots=True)
class Tally:
    """What was read so far."""

    rows: int = 0
    views: int = 0
    not_views: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)
    earliest: int | None = None
    latest: int | None = None

    @property
    def bad(self) -> int:
        return sum(fault.rows for fault in self.faults.values())

    def add(self, reason: str, fault: Fault) -> None:
        known = self.faults.setdefault(reason, fault)
        if known is not fault:
            known.rows += fault.rows

    def see(self, times: pl.Series) -> None:
        """Count usable page views, by their times."""
        if times.is_empty():
            return
        earliest, latest = int(cast(int, times.min())), int(cast(int, times.max()))
        self.views += len(times)
        self.earliest = earliest if self.earliest is None else min(self.earliest, earliest)
        self.latest = latest if self.latest is None else max(self.latest, latest)

    def check(self, limit: float) -> None:
        """Raises `LogError` if more than `limit` (a share) of the rows could not be used."""
        if self.bad <= limit * self.rows:
            return
        reasons = ", ".join(f"{fault.rows:,} {reason}" for reason, fault in self.faults.items())
        reason, first = min(self.faults.items(), key=lambda item: item[1].position)
        value = "" if first.value is None else f" {first.value!r}"
        where = f"column {first.column!r}" if first.column else "the whole row"
        raise LogError(
            f"{self.bad:,} of {self.rows:,} rows cannot be used ({reasons}); --max-bad-rows {limit:g} allows fewer. "
            f"The first: {first.file}, row {first.row} (not counting a header), {where}: {reason}{value}"
        )


class Pager:
    """Applies the page rules to whole batches: Python runs once per distinct (URL, event type), and remembers."""

    def __init__(self, rules: PageRules) -> None:
        self._rules = rules
        self._named = lru_cache(_CACHED)(self._page)

    def pages(self, urls: pl.Series, events: pl.Series | None) -> pl.DataFrame:
        """Columns `page` and `reason` for every row: a page; or a reason why there is none; or neither, for an event
        that is no page view."""
        distinct, place = self._short(urls)
        if events is None:
            found = [self._named(url) for url in distinct.to_list()]
        else:
            kinds, kind = coded(events)
            pairs, place = _numbered(place * len(kinds) + kind, len(distinct) * len(kinds))
            names, types = distinct.to_list(), kinds.to_list()
            which = zip((pairs // max(1, len(kinds))).tolist(), (pairs % max(1, len(kinds))).tolist(), strict=True)
            found = [self._named(names[url], types[event]) for url, event in which]
        answers = pl.DataFrame(
            {"page": [page for page, _ in found], "reason": [reason for _, reason in found]},
            schema={"page": pl.String, "reason": pl.String},
        )
        return answers.select(pl.all().gather(pl.Series(place, dtype=pl.UInt32)))

    def _page(self, url: str | None, event: str | None = None) -> tuple[str | None, str | None]:
        try:
            return self._rules.page(url, event), None
        except PageError as error:
            return None, error.reason

    def _short(self, urls: pl.Series) -> tuple[pl.Series, NDArray[np.int64]]:
        """The distinct URLs, and the place of every row's among them; without the query and fragment where the rules
        look at neither: far fewer are distinct then.

        Only where it cannot matter: the URL shows at its very start that it is one, and holds no blank before.
        """
        if self._rules.source == "name" or self._rules.keep_query:
            return coded(urls)
        frame = urls.to_frame("url")
        head = pl.col("url").str.splitn("?", 2).struct[0]
        if urls.str.contains("#", literal=True).any():
            head = head.str.splitn("#", 2).struct[0]
        distinct, place = coded(frame.select(head).to_series())
        if distinct.str.contains(r"^(?:/|https?://)[^?#\s\x00-\x1f]*$").all():
            return distinct, place
        exact = pl.col("url").str.extract(r"^((?:/|https?://)[^?#\s\x00-\x1f]*)[?#]")
        return coded(frame.select(pl.coalesce(exact, pl.col("url"))).to_series())


def coded(values: pl.Series) -> tuple[pl.Series, NDArray[np.int64]]:
    """The distinct strings in the order in which they come first, null being one of them, and the place of each."""
    codes = values.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode(null_encoding="encode")
    names = cast(pl.Series, pl.from_arrow(codes.dictionary)).cast(pl.String)
    return names, codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _numbered(values: NDArray[np.int64], below: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values, all in [0, below), in ascending order, and the place of each among them."""
    if below > 4 * len(values) + 1_000_000:
        distinct, place = np.unique(values, return_inverse=True)
        return distinct, place.astype(np.int64)
    there = np.zeros(below, dtype=bool)
    there[values] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[values]


def page_views(
    log: LogFile,
    form: Format,
    roles: Mapping[str, tuple[str, ...]],
    context: Sequence[str],
    pager: Pager,
    tally: Tally,
    advance: Callable[[float], None],
) -> Iterator[pl.DataFrame]:
    """The file's page views in order, a batch at a time, in the columns of `VIEWS` and `context`. Raises `LogError`.

    `roles` is what `resolve` says of the file; a context column that it lacks is null.
    """
    columns = list(dict.fromkeys(name for names in roles.values() for name in names))
    rows = Rows()
    before = tally.rows

    def judge(numbered: tuple[int, pl.DataFrame]) -> _Read:
        first, batch = numbered
        frame = role_frame(batch, roles, log.path).with_columns(row=pl.int_range(first, first + batch.height))
        judged = _judged(form.events(frame), form, pager)
        usable = judged["view"] & judged["reason"].is_null()
        views = judged if usable.all() else judged.filter(usable)
        absent = [pl.lit(None, pl.String).alias(name) for name in context if name not in views.columns]
        not_views = judged.filter(~judged["view"])["row"].n_unique()
        return _Read(batch.height, _faults(judged), not_views, views.with_columns(absent).select(*VIEWS, *context))

    for read in abreast(judge, _counted(batches(log, columns, rows, advance))):
        tally.rows += read.rows
        for reason, count, index, value in read.faults:
            column = "" if reason not in _BLAMED else roles[_BLAMED[reason]][0]
            row = rows.number(index)
            tally.add(reason, Fault(count, log.path, row, before + row, column, value))
        tally.not_views += read.not_views
        tally.see(read.views["time"])
        yield read.views
        if tally.rows >= _HOPELESS and tally.bad == tally.rows:
            tally.check(0.0)
    if rows.malformed:
        tally.rows += len(rows.malformed)
        first = rows.malformed[0]
        tally.add("malformed row", Fault(len(rows.malformed), log.path, first, before + first, "", None))


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What one batch of `rows` rows came to. `faults`: as `_faults` returns them."""

    rows: int
    faults: list[tuple[str, int, int, str | None]]
    not_views: int
    views: pl.DataFrame


def _counted(frames: Iterable[pl.DataFrame]) -> Iterator[tuple[int, pl.DataFrame]]:
    """Each with the number of rows before it."""
    before = 0
    for frame in frames:
        yield before, frame
        before += frame.height


_BLAMED = {
    "missing user": "user",
    "missing time": "time",
    "unparsable time": "time",
    "no page": "page",
    "malformed URL": "page",
    "reserved page name": "page",
}


def _judged(frame: pl.DataFrame, form: Format, pager: Pager) -> pl.DataFrame:
    """The events with their page and time, `view` (is it a page view at all?) and `reason` (why it is unusable)."""
    named = pager.pages(frame["page"], frame["event"] if "event" in frame.columns else None)
    user, time = frame["user"], frame["time"]
    micros = microseconds(time, form.time_unit)
    nobody = user.is_null()
    if _doubtful(user):
        nobody |= user.str.to_lowercase().is_in(NOBODY).fill_null(False)
    view, reason = named["page"].is_not_null() | named["reason"].is_not_null(), named["reason"]
    if nobody.any() or micros.null_count():
        blamed = (
            pl.when(nobody)
            .then(pl.lit("missing user"))
            .when(time.is_null())
            .then(pl.lit("missing time"))
            .when(micros.is_null())
            .then(pl.lit("unparsable time"))
            .otherwise(reason)
        )
        reason = pl.select(pl.when(view).then(blamed)).to_series()
    return frame.with_columns(
        named["page"],
        reason.alias("reason"),
        view.alias("view"),
        micros.alias("time"),
        time.cast(pl.String).alias("value"),
        session=pl.col("session") if "session" in frame.columns else pl.lit(None, pl.String),
        **({"referrer": _host(pl.col("referrer"))} if "referrer" in frame.columns else {}),
    )


def _doubtful(users: pl.Series) -> bool:
    """Whether any is short enough to be one of `NOBODY`. In bytes: of their letters only k has an upper case outside
    ASCII, the kelvin sign, and the one word with a k is as long with it as the longest."""
    return bool((users.str.len_bytes() <= max(map(len, NOBODY))).any())


def _faults(judged: pl.DataFrame) -> list[tuple[str, int, int, str | None]]:
    """Reason, number of rows, position of the first, and the time as it stands there where the time is the reason."""
    bad = judged.filter(pl.col("reason").is_not_null())
    if bad.is_empty():
        return []
    groups = bad.unique("row", keep="first", maintain_order=True).group_by("reason", maintain_order=True)
    counted = groups.agg(pl.len().alias("rows"), pl.col("row").first(), pl.col("value").first().str.slice(0, 40))
    return [
        (reason, count, index, value if reason == "unparsable time" else None)
        for reason, count, index, value in counted.iter_rows()
    ]


def _host(referrer: pl.Expr) -> pl.Expr:
    """A referring URL tells more about a person than where they came from: only its host is kept."""
    host = referrer.str.extract(r"^[A-Za-z][A-Za-z0-9+.\-]*://(?:[^/?#@]*@)?([^/?#:]+)")
    return pl.coalesce(host, pl.when(~referrer.str.contains(r"://|^/|[?#]")).then(referrer))
