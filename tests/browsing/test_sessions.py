from __future__ import annotations

from datetime import UTC, datetime, timedelta

from browsing.pages import PageRules
from browsing.sessions import Event, Session, sessions_of

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def test_a_pause_longer_than_the_gap_ends_a_session() -> None:
    events = [Event(at(0), "/a"), Event(at(30), "/b"), Event(at(60.1), "/c")]
    assert sessions_of(events, PageRules()) == [Session(at(0), ("/a", "/b")), Session(at(60.1), ("/c",))]


def test_events_may_come_unordered_and_equal_times_keep_the_log_s_order() -> None:
    events = [Event(at(5), "/c"), Event(at(0), "/a"), Event(at(5), "/d")]
    assert sessions_of(events, PageRules()) == [Session(at(0), ("/a", "/c", "/d"))]


def test_a_log_that_names_its_sessions_is_believed() -> None:
    events = [
        Event(at(0), "/a", session_id="s1"),
        Event(at(100), "/b", session_id="s1"),
        Event(at(50), "/c", session_id="s2"),
    ]
    assert sessions_of(events, PageRules()) == [Session(at(0), ("/a", "/b")), Session(at(50), ("/c",))]


def test_repeats_collapse_and_ignored_events_do_not_bridge_a_pause() -> None:
    rules = PageRules(ignore_events=("scroll",))
    events = [Event(at(0), "/a"), Event(at(1), "/a"), Event(at(20), "/a", "scroll"), Event(at(40), "/b")]
    assert sessions_of(events, rules) == [Session(at(0), ("/a",)), Session(at(40), ("/b",))]
    every = PageRules(collapse_repeats=False, ignore_events=("scroll",))
    assert sessions_of(events[:2], every) == [Session(at(0), ("/a", "/a"))]


def test_sessions_outside_the_limits_are_dropped() -> None:
    rules = PageRules(min_session_pages=2, max_session_pages=2)
    events = [Event(at(0), "/a")]
    events += [Event(at(100 + i), f"/{i}") for i in range(2)]
    events += [Event(at(200 + i), f"/{i}") for i in range(3)]
    assert sessions_of(events, rules) == [Session(at(100), ("/0", "/1"))]


def test_no_events_no_sessions() -> None:
    assert sessions_of([], PageRules()) == []
