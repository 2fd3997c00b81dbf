from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loadtest.visitors import VisitorError, body, read_bundle, read_dataset, walks
from service.schemas import PredictRequest
from tests.loadtest import sources
from tests.loadtest.fake import PAGES, VERSION


def test_walks_are_the_seeds_and_no_session_comes_twice() -> None:
    first, again, other = (walks(PAGES, 50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    sessions = [session for visitor in first for session in visitor.sessions]
    assert len(set(sessions)) == len(sessions)
    assert {page for session in sessions for page in session} == set(PAGES)
    assert {len(visitor.sessions) for visitor in first} == {1, 2, 3, 4, 5, 6}
    assert all(list(visitor.started_at) == sorted(visitor.started_at) for visitor in first)


def test_too_few_pages_for_so_many_sessions_are_told() -> None:
    with pytest.raises(VisitorError, match="1 pages are too few for 9 different sessions"):
        walks(["/"], 50, np.random.default_rng(0))


def test_a_body_is_a_request_that_the_service_takes(tmp_path: Path) -> None:
    split = read_dataset(sources.dataset(tmp_path / "data"))
    made = [*walks(PAGES, 20, np.random.default_rng(0)), *split.visitors([3, 1])]
    for number, visitor in enumerate(made):
        asked = PredictRequest.model_validate_json(body(visitor, f"visitor-{number}", {"seed": number, "samples": 4}))
        assert asked.user_id == f"visitor-{number}"
        assert tuple(tuple(session.pages) for session in asked.sessions or ()) == visitor.sessions
        assert asked.options.seed == number
    assert b"secret" not in body(made[-1], "visitor-1", {})


def test_rows_of_a_dataset_come_in_the_order_asked_for(tmp_path: Path) -> None:
    split = read_dataset(sources.dataset(tmp_path / "data"))
    assert len(split) == 40
    assert [visitor.sessions[0][0] for visitor in split.visitors([7, 0, 39])] == ["/own/7", "/own/0", "/own/39"]
    assert all(isinstance(time, datetime) and time.tzinfo for time in split.came)


def test_a_long_history_keeps_its_newest_sessions(tmp_path: Path) -> None:
    split = read_dataset(sources.dataset(tmp_path / "data", 2, sessions=230))
    visitor = split.visitors([1])[0]
    assert len(visitor.sessions) == 200
    assert visitor.sessions[-1] == ("/own/1", PAGES[(1 + 229) % len(PAGES)])
    asked = json.loads(body(visitor, "v", {}))
    assert asked["sessions"][0]["started_at"] < asked["sessions"][-1]["started_at"]


def test_a_bundle_tells_its_version_and_pages(tmp_path: Path) -> None:
    found = read_bundle(sources.bundle(tmp_path / "bundle"))
    assert (found.version, found.pages) == (VERSION, PAGES)


def test_what_is_no_bundle_or_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(VisitorError, match=r"manifest.json: No such file"):
        read_bundle(tmp_path)
    broken = sources.bundle(tmp_path / "bundle")
    (broken / "manifest.json").write_text("{}")
    with pytest.raises(VisitorError, match=r"manifest or vocabulary cannot be read \(ValidationError\)"):
        read_bundle(broken)
    with pytest.raises(VisitorError, match=r"test.parquet is no test split"):
        read_dataset(tmp_path)
    (tmp_path / "empty").mkdir()
    columns = {"next_started_at": pl.Series([], dtype=pl.Datetime("us", "UTC"))}
    pl.DataFrame(columns).write_parquet(tmp_path / "empty" / "test.parquet")
    with pytest.raises(VisitorError, match="has no visitor"):
        read_dataset(tmp_path / "empty")
