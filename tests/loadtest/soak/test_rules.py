from __future__ import annotations

from typing import Any

import pytest

from browsing.newest import MAX_PAGES, MAX_SESSION_PAGES, MAX_SESSIONS
from browsing.pages import OutcomeRule, PageRules
from loadtest.soak.rules import few_values, mended

RULES = PageRules(outcomes={"cart": OutcomeRule(page="/cart", events=("added",))})
EARLY, LATE = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00+02:00"


def visit(at: str, pages: int = 1) -> dict[str, Any]:
    return {"started_at": at, "pages": ["/"] * pages}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"items": [3]},
        {"sessions": "no list", "options": 7},
        {"sessions": [visit(EARLY), visit(LATE)], "options": {"as_of": LATE, "samples": 3}},
        {"sessions": [{"started_at": "no time", "pages": []}]},
        {"events": [{"time": EARLY, "url": "/bags"}, {"time": EARLY, "event": "added"}], "options": {"strict": True}},
    ],
)
def test_what_holds_already_stays(body: dict[str, Any]) -> None:
    assert mended(body, RULES) == body


def test_visits_are_put_in_order() -> None:
    assert mended({"sessions": [visit(LATE), visit(EARLY)]}, RULES)["sessions"] == [visit(EARLY), visit(LATE)]


def test_the_newest_pages_are_kept() -> None:
    sessions = [visit(EARLY, 400)] * 20
    kept = mended({"sessions": sessions}, RULES)["sessions"]
    assert sum(len(session["pages"]) for session in kept) <= MAX_PAGES < MAX_PAGES + 400
    assert len(kept) == 12


def test_what_is_kept_is_what_a_request_may_hold() -> None:
    """The rule is the language's own: so many sessions, and so many pages of each."""
    assert len(mended({"sessions": [visit(EARLY)] * (MAX_SESSIONS + 50)}, RULES)["sessions"]) == MAX_SESSIONS
    (kept,) = mended({"sessions": [{**visit(EARLY, MAX_SESSION_PAGES + 1), "more": 1}]}, RULES)["sessions"]
    assert kept == {**visit(EARLY, MAX_SESSION_PAGES), "more": 1}


def test_values_are_counted_to_the_bottom() -> None:
    assert few_values({"events": [[None] * 100] * 100})
    assert not few_values({"events": [[None] * 200] * 200})
    assert few_values("text")


def test_an_event_names_a_page() -> None:
    events = mended({"events": [{"time": EARLY, "url": " ", "event": "seen"}, {"time": EARLY}, 5]}, RULES)["events"]
    assert events == [{"time": EARLY, "url": "/", "event": "seen"}, {"time": EARLY, "url": "/"}, 5]


def test_options_that_contradict_the_history() -> None:
    asked = mended({"sessions": [visit(LATE)], "options": {"as_of": EARLY, "samples": 8.0, "seed": 1.5}}, RULES)
    assert asked["options"] == {"as_of": None, "samples": 8, "seed": 1.5}
    assert isinstance(asked["options"]["samples"], int)
    assert mended({"sessions": [], "options": {"strict": True}}, RULES)["options"] == {"strict": False}
    hurried = {"sessions": [visit(EARLY)], "options": {"strict": True, "deadline_ms": 1}}
    assert mended(hurried, RULES)["options"] == {"strict": True, "deadline_ms": None}
