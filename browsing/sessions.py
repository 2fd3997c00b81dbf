"""From a visitor's events to sessions, in the same way at ingest and at serving."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from browsing.pages import PageRules


@dataclass(frozen=True, slots=True)
class Event:
    """One row of a log, before the page rules. `time` is timezone-aware."""

    time: datetime
    url: str | None
    event_type: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """The pages of one visit, in order."""

    started_at: datetime
    pages: tuple[str, ...]


def sessions_of(events: Iterable[Event], rules: PageRules) -> list[Session]:
    """One visitor's sessions, oldest first.

    Events are ordered by time (equal times keep the log's order); those that are no page view are left out before
    pauses are measured. A session ends where the log says so, or after a pause longer than the rules' gap. Sessions
    outside the rules' length limits are dropped. Raises `PageError` where an event names no page.
    """
    views: list[tuple[datetime, str, str | None]] = []
    for event in sorted(events, key=lambda e: e.time):
        page = rules.page(event.url, event.event_type)
        if page is not None:
            views.append((event.time, page, event.session_id))
    groups: dict[tuple[str | None, int], list[tuple[datetime, str]]] = {}
    gap = timedelta(minutes=rules.session_gap_minutes)
    last: datetime | None = None
    run = 0
    for time, page, session_id in views:
        if session_id is not None:
            groups.setdefault((session_id, 0), []).append((time, page))
            continue
        if last is not None and time - last > gap:
            run += 1
        last = time
        groups.setdefault((None, run), []).append((time, page))
    sessions = []
    for group in groups.values():
        pages = tuple(page for _, page in group)
        if rules.collapse_repeats:
            pages = pages[:1] + tuple(b for a, b in pairwise(pages) if a != b)
        if len(pages) < rules.min_session_pages:
            continue
        if rules.max_session_pages is not None and len(pages) > rules.max_session_pages:
            continue
        sessions.append(Session(group[0][0], pages))
    sessions.sort(key=lambda s: s.started_at)
    return sessions
