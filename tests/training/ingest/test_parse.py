"""Page rules on whole batches are the page rules on single events; unusable rows are counted by reason."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from browsing.pages import PageError, PageRules
from training.ingest.columns import resolve
from training.ingest.events import EVENTS
from training.ingest.format import Format
from training.ingest.parse import Pager, Tally, page_views
from training.ingest.readers import LogError, LogFile, header

urls = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.text(alphabet="/?#:. ahtps[]%\t\n\x1f\x85\u00a0é1=&", max_size=25),
    st.builds(
        lambda scheme, rest: scheme + rest,
        st.sampled_from(["/", "//", "https://", "http://shop.example/", "HTTPS://x", " /a"]),
        st.text(alphabet="/?#:. ab%2F\t\n\u2003[]=&", max_size=20),
    ),
)
rules = st.builds(
    PageRules,
    source=st.sampled_from(["auto", "url", "name"]),
    keep_host=st.booleans(),
    keep_query=st.sampled_from([(), ("a",)]),
    lowercase=st.booleans(),
    max_depth=st.sampled_from([None, 1]),
    view_events=st.sampled_from([None, ("view",)]),
    ignore_events=st.sampled_from([(), ("scroll",)]),
)


def one(rules: PageRules, url: str | None, event: str | None) -> tuple[str | None, str | None]:
    try:
        return rules.page(url, event), None
    except PageError as error:
        return None, error.reason


@settings(max_examples=300, deadline=None)
@given(rules, st.lists(st.tuples(urls, st.sampled_from([None, "view", "scroll", "cart", "other"])), max_size=8))
def test_a_batch_is_what_its_events_are(rules: PageRules, log: list[tuple[str | None, str | None]]) -> None:
    schema = {"url": pl.String, "event": pl.String}
    frame = pl.DataFrame(log, schema=schema, orient="row")
    pager = Pager(rules)
    assert pager.pages(frame["url"], frame["event"]).rows() == [one(rules, *row) for row in log]
    assert pager.pages(frame["url"], None).rows() == [one(rules, url, None) for url, _ in log]


def test_python_runs_once_per_distinct_url(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    page = PageRules.page

    def spy(self: PageRules, url: str | None, event_type: str | None = None) -> str | None:
        asked.append(url)
        return page(self, url, event_type)

    monkeypatch.setattr(PageRules, "page", spy)
    pager = Pager(PageRules())
    for _ in range(3):
        pager.pages(pl.Series([f"https://shop.example/bags?click={n}" for n in range(100)]), None)
    assert asked == ["https://shop.example/bags"]


def parse(path: Path, form: Format = EVENTS) -> tuple[pl.DataFrame, Tally]:
    log = LogFile(path, "delimited")
    tally = Tally()
    roles = resolve(path, header(log), form)
    context = ["device", "referrer"]
    batches = list(page_views(log, form, roles, context, Pager(form.rules), tally, lambda n: None))
    return pl.concat(batches), tally


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "user_id,time,url,referrer\n"
        "ann,2026-01-01,/a,https://me:secret@www.search.example:443/find?name=ann\n"
        ",2026-01-01,/a,\n"
        "undefined,2026-01-01,/a,\n"
        "ann,,/a,\n"
        "ann,soon,/a,\n"
        "ann,2026-01-01,,\n"
        "ann,2026-01-01\n"
        "ann,2026-01-01,http://[broken,\n"
        "ann,2026-01-02,/b,mail\n"
        "ann,later,/b,/inside?x\n"
    )
    views, tally = parse(path)
    assert views.rows() == [
        ("ann", 1767225600_000000, "/a", None, None, "www.search.example"),
        ("ann", 1767312000_000000, "/b", None, None, "mail"),
    ]
    assert {reason: fault.rows for reason, fault in tally.faults.items()} == {
        "missing user": 2,
        "missing time": 1,
        "unparsable time": 2,
        "no page": 1,
        "malformed URL": 1,
        "malformed row": 1,
    }
    rows = {reason: fault.row for reason, fault in tally.faults.items()}
    assert rows == {
        "missing user": 2,
        "missing time": 4,
        "unparsable time": 5,
        "no page": 6,
        "malformed row": 7,
        "malformed URL": 8,
    }
    assert (tally.rows, tally.views, tally.bad) == (10, 2, 8)
    with pytest.raises(LogError, match=r"8 of 10 rows .*log\.csv, row 2 .*column 'user_id': missing user"):
        tally.check(0.5)
    tally.check(0.8)


def test_events_that_are_no_view_are_not_bad(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,time,page,event\nann,1,/a,view\n,,,scroll\nann,2,,cart\n")
    form = Format(name="events", rules=PageRules(ignore_events=("scroll",)), guess=True)
    views, tally = parse(path, form)
    assert views["page"].to_list() == ["/a", "/cart"]
    assert (tally.rows, tally.views, tally.not_views, tally.bad) == (3, 2, 1, 0)


def test_a_hopeless_log_stops_early(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,time,page\n" + "ann,someday,/a\n" * 20_000)
    with pytest.raises(LogError, match=r"row 1 .* column 'time': unparsable time 'someday'"):
        parse(path)
