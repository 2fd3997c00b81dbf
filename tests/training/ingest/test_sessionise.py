"""Sessions in polars are the sessions of `browsing.sessions.sessions_of`, which the service runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from browsing.pages import PageRules
from browsing.sessions import Event, Session, sessions_of
from training.ingest.parse import VIEWS
from training.ingest.sessionise import sessionise

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Few users, pages, names and times, so that ties, interleaved sessions and repeats are common.
views = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cyd"]),
        st.sampled_from([0, 1, 59, 60, 61, 119, 120, 121, 180, 400]),
        st.sampled_from(["/a", "/b", "/cart"]),
        st.sampled_from([None, None, "s1", "s2"]),
    ),
    max_size=30,
)
rules = st.builds(
    PageRules,
    session_gap_minutes=st.sampled_from([0.5, 1.0, 2.0, 1 / 60]),
    collapse_repeats=st.booleans(),
    min_session_pages=st.integers(1, 2),
    max_session_pages=st.sampled_from([None, 2, 3]),
)


@settings(max_examples=300, deadline=None)
@given(views, rules)
def test_equal_to_the_definition(log: list[tuple[str, int, str, str | None]], rules: PageRules) -> None:
    expected: dict[str, list[Session]] = {}
    for user in sorted({row[0] for row in log}):
        events = [
            Event(EPOCH + timedelta(seconds=second), page, session_id=session)
            for name, second, page, session in log
            if name == user
        ]
        if found := sessions_of(events, rules):
            expected[user] = found
    frame = pl.DataFrame(
        [(user, second * 10**6, page, session) for user, second, page, session in log], schema=VIEWS, orient="row"
    )
    sessions = sessionise(frame, rules)
    longest = rules.max_session_pages or 10**9
    got: dict[str, list[Session]] = {}
    for user, started, pages, length in sessions.iter_rows():
        assert length == len(pages)
        if rules.min_session_pages <= length <= longest:
            got.setdefault(user, []).append(Session(EPOCH + timedelta(microseconds=started), tuple(pages)))
    assert got == expected
    assert list(got) == sorted(got)


def test_context_is_the_first_value_of_the_session() -> None:
    rows = [
        ("u", 0, "/a", None, None),
        ("u", 1, "/a", None, "phone"),  # a repeated view, yet the one that has it
        ("u", 2, "/b", None, "desktop"),
        ("u", 10**10, "/b", None, None),
    ]
    frame = pl.DataFrame(rows, schema={**VIEWS, "device": pl.String}, orient="row")
    sessions = sessionise(frame, PageRules())
    assert sessions["pages"].to_list() == [["/a", "/b"], ["/b"]]
    assert sessions["device"].to_list() == ["phone", None]


def test_users_and_times_too_many_for_one_number() -> None:
    first, last = -62_135_500_000_000_000, 253_370_000_000_000_000  # of the years 1 and 9999
    users = [f"u{n:02d}" for n in range(60)]
    log = [(user, at, f"/{user}/{at > 0}", None) for at in (last, first) for user in reversed(users)]
    sessions = sessionise(pl.DataFrame(log, schema=VIEWS, orient="row"), PageRules())
    expected = [(user, at, [f"/{user}/{at > 0}"], 1) for user in users for at in (first, last)]
    assert sessions.rows() == expected
