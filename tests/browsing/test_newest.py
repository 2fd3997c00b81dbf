"""The newest side of a history, as much as one request may hold."""

from __future__ import annotations

import pytest

from browsing.newest import MAX_PAGES, MAX_SESSION_PAGES, MAX_SESSIONS, newest


def test_a_short_history_is_kept_as_it_is() -> None:
    history = [["/"], ["/bags", "/cart"]]
    assert newest([1, 2], history) == [(1, ["/"]), (2, ["/bags", "/cart"])]
    assert newest([], []) == []


def test_so_many_sessions() -> None:
    kept = newest(range(300), [["/"]] * 300)
    assert [at for at, _ in kept] == list(range(300 - MAX_SESSIONS, 300))


def test_so_many_pages_of_a_session_and_of_all() -> None:
    pages = [f"/{i}" for i in range(700)]
    kept = newest(range(12), [pages] * 12)
    assert [at for at, _ in kept] == list(range(12 - MAX_PAGES // MAX_SESSION_PAGES, 12))
    assert {tuple(session) for _, session in kept} == {tuple(pages[-MAX_SESSION_PAGES:])}


def test_a_session_is_left_out_as_a_whole() -> None:
    full = [["/"] * 500] * 10
    assert [at for at, _ in newest(range(12), [["/"], ["/"] * 500, *full])] == list(range(2, 12))
    assert newest(range(11), [["/"], *[["/"] * 499] * 10])[0] == (0, ["/"])


def test_a_session_that_is_null_stays_null_and_holds_nothing() -> None:
    assert newest([1, 2, 3], [["/"], None, ["/bags"]]) == [(1, ["/"]), (2, None), (3, ["/bags"])]
    assert len(newest(range(300), [None] * 300)) == MAX_SESSIONS


def test_every_session_has_its_time() -> None:
    with pytest.raises(ValueError, match="zip"):
        newest([1], [["/"], ["/"]])
