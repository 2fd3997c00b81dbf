"""What must not be parsed: small bodies that become large, and long ones that become longer answers."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from browsing.bundle import Bundle
from service.batch import items_of
from service.problems import ProblemError
from service.schemas import MAX_PAGES, MAX_SESSION_PAGES, PredictRequest
from service.security.values import MAX_BATCH_VALUES, MAX_VALUES, bounded, count
from tests.service.building import SESSIONS, running

AT = "2026-11-01T10:00:00Z"
START = datetime(2026, 1, 1, tzinfo=UTC)


def structure(value: Any) -> int:
    """The same number, from the parsed document."""
    if isinstance(value, dict):
        return 1 + max(0, len(value) - 1) + sum(structure(inner) for inner in value.values())
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(structure(inner) for inner in value)
    return 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a,"[{\\é\n'), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.sampled_from('a,"[{\\'), max_size=4), inner),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_the_count_is_that_of_the_parsed_document(value: Any, ascii_only: bool) -> None:
    assert count(json.dumps(value, ensure_ascii=ascii_only).encode()) == structure(value)


def test_the_count_goes_on_over_its_chunks() -> None:
    value = [["/a,b[c", '"{,\\'], {"k": ","}] * 70_000
    body = json.dumps(value).encode()
    assert len(body) > 2**21
    assert count(body) == structure(value)
    assert count(b'["' + b"," * 3_000_000 + b'"]') == 1
    assert count(b"") == 0


def widest_sessions() -> dict[str, Any]:
    at = [(START + timedelta(minutes=i)).isoformat() for i in range(MAX_PAGES)]
    return {"user_id": "u", "sessions": [{"started_at": t, "pages": ["/bags?sort=[a,b,{c}]"]} for t in at]}


def widest_events() -> dict[str, Any]:
    event = {"time": AT, "url": "/a?b=1,2,3", "event": "e", "session_id": "s"}
    return {"user_id": "u", "events": [event] * MAX_PAGES, "options": {"samples": 1, "seed": 3, "strict": True}}


@pytest.mark.parametrize("widest", [widest_sessions(), widest_events()], ids=["sessions", "events"])
def test_what_may_be_asked_is_never_too_much(widest: dict[str, Any]) -> None:
    body = json.dumps(widest).encode()
    bounded(body, MAX_VALUES)
    PredictRequest.model_validate_json(body)


MEBIBYTE = 2**20
WIDE = {
    "empty lists": b'{"sessions":[' + b"[]," * (MEBIBYTE // 3 - 10) + b"[]]}",
    "members made up": b"{" + b",".join(b'"%d":0' % i for i in range(90_000)) + b"}",
    "wrong pages": b'{"sessions":[%s]}'
    % b",".join([b'{"started_at":0,"pages":[%s]}' % b",".join([b"0"] * 500)] * 1_000),
    "events of wrong members": b'{"events":[%s]}' % b",".join([b'{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0}'] * 5_000),
}


@pytest.mark.parametrize("body", WIDE.values(), ids=WIDE)
def test_a_wide_document_is_refused_before_it_is_parsed(
    bundle: Bundle, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(body) <= MEBIBYTE

    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("it was parsed")

    async def scenario() -> None:
        async with running(bundle) as made:
            monkeypatch.setattr(PredictRequest, "model_validate_json", parsed)
            response = await made.client.post("/predict", content=body, headers={"Content-Type": "application/json"})
            assert response.status_code == 413
            assert response.json()["type"] == "urn:hetlm:problem:body-too-large"
            assert str(MAX_VALUES) in response.json()["detail"]

    asyncio.run(scenario())


def test_one_wide_item_is_refused_alone(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            wide: dict[str, Any] = {"sessions": [[]] * (MAX_VALUES + 1)}
            response = await made.client.post("/predict/batch", json={"items": [{"sessions": SESSIONS}, wide]})
            assert response.status_code == 200
            good, bad = response.json()["items"]
            assert good["fallback"] is None
            assert bad["problem"]["status"] == 413

    asyncio.run(scenario())


def test_32_mebibytes_of_lists_do_not_become_800() -> None:
    body = b'{"items":[[' + b"[]," * (32 * MEBIBYTE // 3) + b"[]]]}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ProblemError) as caught:
        items_of(body)
    assert caught.value.status == 413
    assert str(MAX_BATCH_VALUES) in caught.value.detail
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024, "kB"


NARROW = {
    # name: body, the status
    "deep lists": (b'{"sessions":' + b"[" * 15_000 + b"]" * 15_000 + b"}", 400),
    "deep objects": (b'{"options":' * 10_000 + b"1" + b"}" * 10_000, 400),
    "deep, unclosed": (b"[" * 29_000, 400),
    "a million digits": (b'{"sessions":[],"options":{"seed":' + b"1" * 1_000_000 + b"}}", 400),
    "a large exponent": (b'{"sessions":[],"options":{"seed":1e999999999}}', 422),
    "a page of a mebibyte": (
        b'{"sessions":[{"started_at":"2026-11-01T10:00:00Z","pages":["' + b"a" * 1_000_000 + b'"]}]}',
        422,
    ),
    "escapes": (b'{"sessions":[],"user_id":"' + b"\\u0000" * 170_000 + b'"}', 422),
}


@pytest.mark.parametrize(("body", "status"), NARROW.values(), ids=NARROW)
@pytest.mark.parametrize("batch", [False, True])
def test_what_is_deep_or_long_is_refused(bundle: Bundle, body: bytes, status: int, batch: bool) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            began = time.process_time()
            content = b'{"items":[' + body + b"]}" if batch else body
            response = await made.client.post(
                "/predict/batch" if batch else "/predict", content=content, headers={"Content-Type": "application/json"}
            )
            if batch and response.status_code == 200:
                assert response.json()["items"][0]["problem"]["status"] == status
            else:
                assert response.status_code == status
            assert len(response.content) < 5_000
            assert time.process_time() - began < 20

    asyncio.run(scenario())


def test_a_history_as_wide_as_allowed_is_answered(bundle: Bundle) -> None:
    """5,000 sessions of one page, and 5,000 events of 5,000 sessions: the newest 200 are read."""

    async def scenario() -> None:
        async with running(bundle) as made:
            sessions = await made.answer(widest_sessions())
            assert sessions["embedding"]["sessions"] == 200
            assert sessions["truncated"]["sessions_dropped"] >= MAX_PAGES - 200
            events = [
                {"time": (START + timedelta(minutes=i)).isoformat(), "url": "/bags", "session_id": str(i)}
                for i in range(MAX_PAGES)
            ]
            answer = await made.answer({"events": events})
            assert answer["embedding"]["sessions"] == 200
            one = await made.answer({"events": [{**event, "session_id": "1"} for event in events]})
            assert one["embedding"]["sessions"] <= 200
            longest = [{"started_at": AT, "pages": ["/bags"] * MAX_SESSION_PAGES}] * (MAX_PAGES // MAX_SESSION_PAGES)
            assert (await made.answer({"sessions": longest}))["embedding"]["sessions"] == 10

    asyncio.run(scenario())
