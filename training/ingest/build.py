"""A log to a dataset directory, in passes that each hold a few batches or parts of the users in memory.

1. Rows become page views, spilled to disk by user.
2. Each part's views become sessions, and the lengths of all sessions and the hours of their starts are counted.
3. Each part's sessions become samples and rows about returning, and its pages are counted.
4. Pages are added up over the parts, and the directory is put in its place.

Batches and parts are worked on by a few threads at once, and taken in order: how many there are changes no byte.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import JsonValue

from browsing.pages import PageRules
from training.dataset import (
    CONTEXT,
    INFO,
    Counts,
    DatasetInfo,
    DatasetWriter,
    ReturnsInfo,
    Source,
    Split,
)
from training.ingest.abreast import abreast
from training.ingest.columns import guessed, resolve
from training.ingest.parse import Pager, Tally, page_views
from training.ingest.place import beside, known, occupied, put, refusal
from training.ingest.readers import LogError, LogFile, header
from training.ingest.returns import Windows, learnt_until, returns, windows
from training.ingest.samples import Part
from training.ingest.sessionise import sessionise
from training.ingest.settings import Settings
from training.ingest.source import Bar, source_beside, source_of
from training.ingest.spill import Spill, parts_for, taken
from training.ingest.times import HOUR
from training.ingest.vocabulary import PageCounter, Pages


def build(
    files: list[LogFile], settings: Settings, out: Path, overwrite: bool, bar: Bar, say: Callable[[str], None]
) -> tuple[DatasetInfo, bool]:
    """Write the dataset to `out`; also whether it was there already, from the same files and settings.

    Whatever goes wrong, `out` is either as before or a whole dataset. `say` is told which columns were guessed.
    Raises `LogError`.
    """
    wanted = _recorded(settings)
    found = None
    if occupied(out):
        there = known(out)
        found = source_of(files, settings.form, bar)
        if there is not None and (there.source, there.settings, there.filters) == (found, *wanted):
            return there, True
        if not overwrite or not (out / INFO).is_file():
            raise LogError(refusal(out, there))
    with source_beside(files, settings.form, found) as source:
        roles = [resolve(log.path, header(log), settings.form) for log in files]
        for told in dict.fromkeys(guessed(r, settings.form) for r in roles):
            if told:
                say(f"columns guessed: {told}")
        with beside(out) as (fresh, work):
            info = _Build(files, roles, settings, source, wanted, fresh, work, bar).run()
            shutil.rmtree(work)
            put(fresh, out)
    return info, False


@dataclass(frozen=True, slots=True)
class _Made:
    """A part's sessions, at `path`: how many views and users they are of, sessions by length and by hour."""

    path: Path
    views: int
    users: int
    lengths: dict[int, int]
    hours: dict[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Sampled:
    """What a part adds to the dataset."""

    returns: pl.DataFrame | None
    users: int
    samples: dict[Split, pl.DataFrame]
    page_counts: pl.DataFrame


class _Build:
    def __init__(
        self,
        files: list[LogFile],
        roles: list[dict[str, tuple[str, ...]]],
        settings: Settings,
        source: Callable[[], Source],
        recorded: tuple[dict[str, JsonValue], dict[str, JsonValue]],
        out: Path,
        work: Path,
        bar: Bar,
    ) -> None:
        self._files = files
        self._roles = roles
        self._context = [name for name in CONTEXT if any(name in r for r in roles)]
        self._form = settings.form
        self._filters = settings.filters
        self._source = source
        self._recorded = recorded
        self._out = out
        self._work = work
        self._bar = bar
        self._tally = Tally()
        self._lengths: Counter[int] = Counter()
        self._hours: Counter[int] = Counter()
        self._users = 0

    def run(self) -> DatasetInfo:
        with Spill(self._work / "views", parts_for(sum(f.bulk() for f in self._files))) as spill:
            self._parse(spill)
            parts = self._sessions(spill)
        rules, short, long = self._limits()
        eligible, threshold = self._sample_of_users(parts, rules)
        counter = PageCounter(self._work / "pages")
        sampled = 0
        times, end = windows(self._hours, self._filters), learnt_until(self._hours, self._filters)
        with (
            DatasetWriter(self._out, self._context, returns=times is not None) as writer,
            self._bar("samples", len(parts), "parts") as advance,
        ):
            for part in abreast(partial(self._sampled, rules, threshold, times, end), parts):
                if part.returns is not None:
                    writer.add_returns(part.returns)
                sampled += part.users
                for split, samples in part.samples.items():
                    writer.add(split, samples)
                counter.add(part.page_counts)
                advance(1)
            eligible = sampled if eligible is None else eligible
            if not eligible:
                raise LogError(self._nobody())
            pages = counter.choose(rules, self._filters)
            self._check(pages, writer)
            tally, settings = self._tally, self._recorded[0]
            return writer.finish(
                pages.table,
                rules,
                DatasetInfo(
                    source=self._source(),
                    settings=settings,
                    filters=self._recorded[1],
                    counts=Counts(
                        rows=tally.rows,
                        bad_rows={reason: fault.rows for reason, fault in sorted(tally.faults.items())},
                        not_views=tally.not_views,
                        events=tally.views,
                        users=self._users,
                        sessions=sum(self._lengths.values()) - short - long,
                        short_sessions=short,
                        long_sessions=long,
                        eligible_users=eligible,
                        sampled_users=sampled,
                        samples=dict(writer.written),
                        pages=pages.table.height,
                        pages_seen=pages.seen,
                        unknown_share=pages.unknown_share,
                    ),
                    split=self._filters.split,
                    window_start=_iso(tally.earliest),
                    window_end=_iso(tally.latest),
                    rule_version=rules.version,
                    returns=_about_returns(times, writer),
                ),
            )

    def _parse(self, spill: Spill) -> None:
        pager = Pager(self._form.rules)
        size = sum(f.path.stat().st_size for f in self._files)
        with self._bar("reading", size / 1000, "kB") as advance:
            told = partial(_in_thousands, advance)
            for log, roles in zip(self._files, self._roles, strict=True):
                for views in page_views(log, self._form, roles, self._context, pager, self._tally, told):
                    spill.write(views)
        if self._tally.rows == 0:
            raise LogError(f"{self._name()}: no rows; the log is empty")
        self._tally.check(self._filters.max_bad_rows)
        if self._tally.views == 0:
            raise LogError(
                f"{self._name()}: none of the {self._tally.rows:,} rows is a page view; "
                "look at --event-type, --view-event and --ignore-event"
            )

    def _sessions(self, spill: Spill) -> list[Path]:
        directory = self._work / "sessions"
        directory.mkdir()

        def made(views: Path) -> _Made:
            frame = taken(views)
            sessions = sessionise(frame, self._form.rules)
            path = directory / views.name
            sessions.write_ipc(path, compression="lz4")
            return _Made(
                path,
                frame.height,
                sessions["user"].n_unique(),
                dict(sessions["length"].value_counts().iter_rows()),
                dict((sessions["started"] // HOUR).value_counts().iter_rows()),
            )

        parts: list[Path] = []
        with self._bar("sessions", self._tally.views, "views") as advance:
            for part in abreast(made, spill.parts()):
                self._users += part.users
                self._lengths.update(part.lengths)
                self._hours.update(part.hours)
                parts.append(part.path)
                advance(part.views)
        return parts

    def _limits(self) -> tuple[PageRules, int, int]:
        """The rules with the percentile as a number of pages; sessions below and above their limits."""
        rules = self._form.rules
        kept = {length: n for length, n in sorted(self._lengths.items()) if length >= rules.min_session_pages}
        percentile = self._filters.max_session_percentile
        if percentile is not None and kept:
            share = np.cumsum(list(kept.values())) / sum(kept.values())
            reached = int(np.searchsorted(share, percentile / 100 - 1e-12))
            longest = list(kept)[min(reached, len(kept) - 1)]
            longest = min(longest, rules.max_session_pages or longest)
            # Not `model_copy`: that would carry over the cached `version` of the old rules.
            rules = PageRules.model_validate({**rules.model_dump(), "max_session_pages": longest})
        short = sum(n for length, n in self._lengths.items() if length < rules.min_session_pages)
        limit = rules.max_session_pages
        return rules, short, 0 if limit is None else sum(n for length, n in self._lengths.items() if length > limit)

    def _sample_of_users(self, parts: list[Path], rules: PageRules) -> tuple[int | None, int]:
        """Users with a target, and the largest sampling number of those taken. Without a sample all are taken, and
        counted when their samples are made."""
        wanted = self._filters.users
        if wanted is None:
            return None, 2**64 - 1
        eligible = 0
        smallest = np.zeros(0, dtype=np.uint64)
        for lots in abreast(partial(self._lots, rules), parts):
            eligible += len(lots)
            smallest = np.sort(np.concatenate([smallest, lots]))[:wanted]
        return eligible, int(smallest[-1]) if len(smallest) else 0

    def _lots(self, rules: PageRules, path: Path) -> NDArray[np.uint64]:
        return Part(_within(pl.read_ipc(path, columns=_LEAN), rules), self._filters).lots()

    def _sampled(self, rules: PageRules, threshold: int, times: Windows | None, end: int, path: Path) -> _Sampled:
        sessions = _within(pl.read_ipc(path), rules)
        path.unlink()
        part = Part(sessions, self._filters)
        came = None
        if times is not None:
            room = self._filters.max_history_tokens
            came = returns(sessions, part.whose(), threshold, times, rules.outcome_pages(), room)
        part.keep(threshold)
        return _Sampled(came, part.users, part.samples(), part.page_counts(end))

    def _check(self, pages: Pages, writer: DatasetWriter) -> None:
        if not writer.written["train"]:
            raise LogError(
                f"{self._name()}: no user falls into the training split; more users or another --seed needed"
            )
        if pages.table.is_empty():
            limits = f"{self._filters.min_users} distinct users and {self._filters.min_views} views"
            raise LogError(f"{self._name()}: no page has {limits}; lower --min-users or --min-views")

    def _nobody(self) -> str:
        told = f"{self._name()}: nobody has two sessions, one to learn from and one to predict"
        if self._filters.split_at is not None:
            at = f"--split-at {self._filters.split_at.isoformat()}"
            if self._filters.select_at is not None:
                at = f"--select-at {self._filters.select_at.isoformat()} and {at}"
            return f"{told}, on the sides of {at} where the split wants them"
        return (
            f"{told} ({self._users:,} users, {sum(self._lengths.values()):,} sessions before the length limits); "
            "look at the user column, --session-gap and --min-session-pages"
        )

    def _name(self) -> str:
        rest = f" and {len(self._files) - 1} more" if len(self._files) > 1 else ""
        return f"{self._files[0].path}{rest}"


def _about_returns(times: Windows | None, writer: DatasetWriter) -> ReturnsInfo | None:
    if times is None:
        return None
    as_of, lookback = times.described()
    return ReturnsInfo(lookback_days=lookback, as_of=as_of, users=writer.visitors, returned=writer.returned)


_LEAN = ["user", "started", "length"]


def _within(sessions: pl.DataFrame, rules: PageRules) -> pl.DataFrame:
    longest = rules.max_session_pages
    fits = pl.col("length") >= rules.min_session_pages
    return sessions.filter(fits if longest is None else fits & (pl.col("length") <= longest))


def _recorded(settings: Settings) -> tuple[dict[str, JsonValue], dict[str, JsonValue]]:
    form = settings.form
    columns = {role: list(names) for role, names in form.columns.items()}
    asked = {"columns": columns, "time_unit": form.time_unit, "pages": form.rules.model_dump(mode="json")}
    return cast(dict[str, JsonValue], asked), settings.filters.model_dump(mode="json")


def _in_thousands(advance: Callable[[float], None], n: float) -> None:
    advance(n / 1000)


def _iso(micros: int | None) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros or 0)).isoformat()
