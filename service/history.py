"""From a request to a history in the bundle's language: the same page rules as at ingest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from browsing.pages import PageError, PageRules
from browsing.sessions import Event, Session, sessions_of
from browsing.vocabulary import Prompt, Vocabulary
from service.problems import FieldError, ProblemError
from service.schemas import MAX_SESSIONS, EventIn, PredictRequest

Pages = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class History:
    """`sessions`: oldest first, those that are read; `started_at`: when each began. `prompt`: those that fit into a
    predictor's context, as token ids. `unknown`: pages that the vocabulary lacks, each once, in order of appearance.
    `dropped`: sessions that the prompt lacks."""

    sessions: tuple[Pages, ...]
    started_at: tuple[datetime, ...]
    prompt: Prompt
    unknown: tuple[str, ...]
    dropped: int


def history_of(request: PredictRequest, rules: PageRules, vocabulary: Vocabulary, max_tokens: int) -> History:
    """Raises `ProblemError` for an event that names no page."""
    if request.events is not None:
        given = _sessions(request.events, rules)
    else:
        given = [Session(session.started_at, tuple(session.pages)) for session in request.sessions or ()]
    read = given[-MAX_SESSIONS:]
    kept = tuple(session.pages for session in read)
    started_at = tuple(session.started_at for session in read)
    prompt = vocabulary.prompt(kept, max_tokens)
    pages = dict.fromkeys(page for session in kept for page in session)
    unknown = tuple(page for page in pages if page not in vocabulary)
    return History(kept, started_at, prompt, unknown, len(given) - len(kept) + prompt.sessions_dropped)


def _sessions(events: Sequence[EventIn], rules: PageRules) -> list[Session]:
    rows = [Event(e.time, _told(e.url), _told(e.event), _told(e.session_id)) for e in events]
    try:
        return sessions_of(rows, rules)
    except PageError:
        raise _first_wrong(rows, rules) from None


def _told(value: str | None) -> str | None:
    """As ingest reads a cell: without the white space around it, and nothing where that is all."""
    return (value.strip() or None) if value is not None else None


def _first_wrong(rows: Sequence[Event], rules: PageRules) -> ProblemError:
    """Which event it was."""
    for i, event in enumerate(rows):
        try:
            rules.page(event.url, event.event_type)
        except PageError as error:
            detail = f"names no page ({error.reason}): give a URL, a page name, or an event type that is an outcome"
            pointer = f"/events/{i}/url"
            return ProblemError("invalid-request", f"{pointer}: {detail}", [FieldError(pointer=pointer, detail=detail)])
    raise AssertionError("the page rules refused an event and then took it")
