"""The newest side of a history, as much of it as one request may hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, overload

MAX_SESSIONS = 200
MAX_SESSION_PAGES = 500
MAX_PAGES = 5_000

Moment = TypeVar("Moment")
Page = TypeVar("Page")


@overload
def newest(started_at: Sequence[Moment], history: Sequence[Sequence[Page]]) -> Sequence[tuple[Moment, list[Page]]]: ...


@overload
def newest(
    started_at: Sequence[Moment], history: Sequence[Sequence[Page] | None]
) -> Sequence[tuple[Moment, list[Page] | None]]: ...


def newest(
    started_at: Sequence[Moment], history: Sequence[Sequence[Page] | None]
) -> Sequence[tuple[Moment, list[Page] | None]]:
    """The newest sessions with their times, oldest first: at most `MAX_SESSIONS`, of each at most its last
    `MAX_SESSION_PAGES` pages, together at most `MAX_PAGES`. A session that is null stays null, and holds no page: what
    to say about it is for the caller. Raises `ValueError` where there are not as many times as sessions."""
    kept: list[tuple[Moment, list[Page] | None]] = []
    total = 0
    for at, session in zip(reversed(started_at), reversed(history), strict=True):
        pages = list(session[-MAX_SESSION_PAGES:]) if session is not None else None
        total += len(pages or ())
        if len(kept) == MAX_SESSIONS or total > MAX_PAGES:
            break
        kept.append((at, pages))
    return kept[::-1]
