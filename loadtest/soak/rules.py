"""What a request must hold to that JSON Schema cannot say, for schemathesis, which loads this module as its hooks.

Without it, generated requests that are right by the schema would be refused rightly, and be counted as failures: visits
in the wrong order, an event that names no page, 16.0 where JSON Schema takes it for a whole number. No check and no
answer is touched; requests that are wrong on purpose stay as they are. What is refused for its size alone (413) is not
sent: schemathesis takes that for no refusal, and the limits have tests of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from browsing.newest import newest
from browsing.pages import PageError, PageRules

PAGES = "LOADTEST_PAGES"
"""Names the bundle's `pages.json`."""
MAX_VALUES = 30_000
"""Of one body of `POST /predict`."""
_NAMES = ("url", "event")


def filter_case(context: Any, case: Any) -> bool:
    """Schemathesis asks it about every request, under this name: whether it is sent."""
    return few_values(case.body)


def few_values(body: object) -> bool:
    """At most `MAX_VALUES` values, those inside lists and objects too."""
    waiting, seen = [body], 0
    while waiting and seen <= MAX_VALUES:
        value = waiting.pop()
        seen += 1
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
    return seen <= MAX_VALUES


def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Schemathesis calls it with every request, under this name. What it sends is mended in place."""
    meta = case.meta
    if meta is not None and meta.generation.mode.is_positive and isinstance(case.body, dict):
        case.body = mended(case.body, _rules())


@lru_cache(maxsize=1)
def _rules() -> PageRules:
    return PageRules.load(Path(os.environ[PAGES]))


def mended(body: dict[str, Any], rules: PageRules) -> dict[str, Any]:
    """A body of `POST /predict` with its visits oldest first, no more pages than are taken, events that name a page,
    whole numbers without a point, and an `as_of` that is not before the visits. Anything else comes back as it is."""
    if isinstance(body.get("options"), dict):
        body = {**body, "options": {name: _whole(value) for name, value in body["options"].items()}}
    if isinstance(body.get("events"), list):
        body = {**body, "events": [_named(event, rules) for event in body["events"]]}
    sessions, events = body.get("sessions"), body.get("events")
    if isinstance(sessions, list) and all(_timed(session, "started_at") for session in sessions):
        ordered = sorted(sessions, key=_by("started_at"))
        kept = newest(ordered, [session["pages"] for session in ordered])
        body = {**body, "sessions": [{**session, "pages": pages} for session, pages in kept]}
    visits = [(s, "started_at") for s in body.get("sessions") or ()] + [(e, "time") for e in events or ()]
    options = body.get("options")
    if isinstance(options, dict) and options.get("as_of") is not None and all(_timed(*visit) for visit in visits):
        last = max((_by(name)(visit) for visit, name in visits), default=None)
        if last is not None and _by("as_of")(options) < last:
            body = {**body, "options": {**options, "as_of": None}}
    if isinstance(body.get("options"), dict) and not _history(body, rules):
        body = {**body, "options": {**body["options"], "strict": False}}  # there is nothing to be strict about
    if isinstance(body.get("options"), dict) and body["options"].get("strict") and "deadline_ms" in body["options"]:
        body = {**body, "options": {**body["options"], "deadline_ms": None}}  # a machine's speed is no rule
    return body


def _history(body: dict[str, Any], rules: PageRules) -> bool:
    """Whether any page is left of it by the page rules."""
    events = [event for event in body.get("events") or () if isinstance(event, dict)]
    return bool(body.get("sessions")) or any(rules.page(*_told(event)) is not None for event in events)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _named(event: object, rules: PageRules) -> object:
    if not isinstance(event, dict):
        return event
    try:
        rules.page(*_told(event))
    except PageError:
        return {**event, "url": "/"}
    return event


def _told(event: dict[str, Any]) -> tuple[str | None, str | None]:
    """Its URL and its type, as they are read: nothing where there is only white space."""
    url, kind = (value.strip() or None if isinstance(value := event.get(name), str) else None for name in _NAMES)
    return url, kind


def _by(name: str) -> Callable[[dict[str, Any]], datetime]:
    def key(visit: dict[str, Any]) -> datetime:
        time = datetime.fromisoformat(visit[name])
        return time if time.tzinfo is not None else time.replace(tzinfo=UTC)

    return key


def _timed(visit: object, name: str) -> bool:
    if not isinstance(visit, dict) or not isinstance(visit.get(name), str):
        return False
    try:
        datetime.fromisoformat(visit[name])
    except ValueError:
        return False
    return True


try:
    import anyio  # noqa: F401 - so that no two of schemathesis' workers import it at the same time
    import schemathesis
except ImportError:  # the rules themselves need nothing of it
    pass
else:
    schemathesis.hook(before_call)
    schemathesis.hook(filter_case)
