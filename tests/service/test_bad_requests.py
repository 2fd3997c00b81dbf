"""What must not be asked: refused by name, without repeating it, and without asking an engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from browsing.bundle import Bundle
from service.settings import Settings
from tests.service.building import SESSIONS, SlowEngine, running, tables

MARK = "zq-personal-zq"
"""Stands in every bad value that is text: it may come back nowhere."""
AT = "2026-11-01T10:00:00Z"


def session(**changes: Any) -> dict[str, Any]:
    return {"started_at": AT, "pages": ["/"], **changes}


def options(**changes: Any) -> dict[str, Any]:
    return {"sessions": SESSIONS, "options": changes}


BODIES: list[tuple[str, Any, str]] = [
    # name, body, the pointer that the answer must name
    ("neither", {}, ""),
    ("both", {"sessions": [], "events": []}, ""),
    ("null", {"sessions": None}, ""),
    ("a list", [MARK], ""),
    ("a string", MARK, ""),
    ("a number", 7, ""),
    ("sessions a string", {"sessions": MARK}, "/sessions"),
    ("a session a string", {"sessions": [MARK]}, "/sessions/0"),
    ("no start", {"sessions": [{"pages": ["/"]}]}, "/sessions/0/started_at"),
    ("no pages", {"sessions": [{"started_at": AT}]}, "/sessions/0/pages"),
    ("an empty session", {"sessions": [session(), session(pages=[])]}, "/sessions/1/pages"),
    ("an empty page", {"sessions": [session(pages=["/", ""])]}, "/sessions/0/pages/1"),
    ("a page of 501", {"sessions": [session(pages=[MARK + "x" * 487])]}, "/sessions/0/pages/0"),
    ("a page a number", {"sessions": [session(pages=[7])]}, "/sessions/0/pages/0"),
    ("10,000 pages", {"sessions": [session(pages=["/"] * 10_000)]}, "/sessions/0/pages"),
    ("5,001 pages", {"sessions": [session(pages=["/"] * 500)] * 10 + [session()]}, "/sessions"),
    ("5,001 sessions", {"sessions": [session()] * 5_001}, "/sessions"),
    ("a member too many", {"sessions": [session(referrer=MARK)]}, "/sessions/0/referrer"),
    ("out of order", {"sessions": [session(), session(started_at="2026-10-31T10:00:00Z")]}, "/sessions/1/started_at"),
    (
        "out of order by zone",
        {"sessions": [session(), session(started_at="2026-11-01T10:00:00+01:00")]},
        "/sessions/1/started_at",
    ),
    ("a naive time", {"sessions": [session(started_at="2026-11-01T10:00:00")]}, "/sessions/0/started_at"),
    ("a time in words", {"sessions": [session(started_at=MARK)]}, "/sessions/0/started_at"),
    ("a time in seconds", {"sessions": [session(started_at=1_700_000_000)]}, "/sessions/0/started_at"),
    ("a time in huge seconds", {"sessions": [session(started_at=1e300)]}, "/sessions/0/started_at"),
    ("the year 1", {"sessions": [session(started_at="0001-01-01T00:00:00+23:59")]}, "/sessions/0/started_at"),
    ("the year 9999", {"sessions": [session(started_at="9999-12-31T23:59:59-23:59")]}, "/sessions/0/started_at"),
    ("month 13", {"sessions": [session(started_at="2026-13-01T00:00:00Z")]}, "/sessions/0/started_at"),
    ("a time that is true", {"sessions": [session(started_at=True)]}, "/sessions/0/started_at"),
    ("a user a number", {"user_id": 7, "sessions": []}, "/user_id"),
    ("a long user", {"user_id": MARK * 20, "sessions": []}, "/user_id"),
    ("an event without time", {"events": [{"url": MARK}]}, "/events/0/time"),
    ("an event without page", {"events": [{"time": AT, "url": "/"}, {"time": AT}]}, "/events/1/url"),
    ("an event with a blank page", {"events": [{"time": AT, "url": "  ", "event": MARK}]}, "/events/0/url"),
    ("a malformed URL", {"events": [{"time": AT, "url": f"http://[{MARK}/"}]}, "/events/0/url"),
    ("a reserved page", {"events": [{"time": AT, "url": "[EOS]"}]}, "/events/0/url"),
    ("a URL of 5,000", {"events": [{"time": AT, "url": "/" + MARK * 400}]}, "/events/0/url"),
    ("5,001 events", {"events": [{"time": AT, "url": "/"}] * 5_001}, "/events"),
    ("options a list", {"sessions": [], "options": []}, "/options"),
    ("an unknown option", options(temperature=0.5), "/options/temperature"),
    ("samples 0", options(samples=0), "/options/samples"),
    ("samples 10,000", options(samples=10_000), "/options/samples"),
    ("samples a half", options(samples=16.5), "/options/samples"),
    ("samples a whole float", options(samples=16.0), "/options/samples"),
    ("samples a string", options(samples="16"), "/options/samples"),
    ("samples true", options(samples=True), "/options/samples"),
    ("samples NaN", options(samples=float("nan")), "/options/samples"),
    ("samples infinite", options(samples=float("inf")), "/options/samples"),
    ("samples beyond 64 bits", options(samples=10**40), "/options/samples"),
    ("no tolerance", options(tolerance=0.0), "/options/tolerance"),
    ("a tolerance above a half", options(tolerance=0.51), "/options/tolerance"),
    ("a tolerance a string", options(tolerance="0.1"), "/options/tolerance"),
    ("a tolerance NaN", options(tolerance=float("nan")), "/options/tolerance"),
    ("no top pages", options(top_pages=0), "/options/top_pages"),
    ("101 top pages", options(top_pages=101), "/options/top_pages"),
    ("a seed below 0", options(seed=-1), "/options/seed"),
    ("a seed of 64 bits", options(seed=2**63), "/options/seed"),
    ("no time", options(deadline_ms=0), "/options/deadline_ms"),
    ("too much time", options(deadline_ms=60_001), "/options/deadline_ms"),
    ("another decode", options(decode=MARK), "/options/decode"),
    ("strict by word", options(strict="yes"), "/options/strict"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "pointer"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_a_wrong_field_is_named_and_not_repeated(bundle: Bundle, body: Any, pointer: str) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            asked = len(made.engine.requests)
            response = await made.client.post(
                "/predict", content=json.dumps(body), headers={"Content-Type": "application/json"}
            )
            assert response.status_code == 422, response.text
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert problem["status"] == 422
            assert problem["type"] == "urn:hetlm:problem:invalid-request"
            assert problem["request_id"] == response.headers["x-request-id"]
            assert [error["pointer"] for error in problem["errors"]][:1] == [pointer]
            assert problem["errors"][0]["detail"]
            assert len(problem["errors"]) <= 10
            assert MARK not in response.text
            assert MARK not in made.log.getvalue()
            assert len(made.engine.requests) == asked

    asyncio.run(scenario())


def test_a_made_up_name_is_not_repeated(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            for name in (f"{MARK}@example.org", "x" * 65, "a/b"):
                response = await made.predict({"sessions": [], name: 1})
                assert response.status_code == 422
                assert response.json()["errors"][0]["pointer"] == "/(unnamed)"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("content", "content_type", "status", "kind"),
    [
        (b"", "application/json", 400, "broken-json"),
        (b'{"sessions": [', "application/json", 400, "broken-json"),
        (MARK.encode(), "application/json", 400, "broken-json"),
        (b'{"sessions": [], "user_id": "\xff"}', "application/json", 400, "broken-json"),
        (b'{"sessions": [], "user_id": "\\ud800"}', "application/json", 400, "broken-json"),
        (b"[" * 20_000, "application/json", 400, "broken-json"),
        (b'{"sessions": []}', "text/plain", 415, "not-json"),
        (b'{"sessions": []}', "application/json; charset=latin-1", 415, "not-json"),
        (b"sessions=1", "application/x-www-form-urlencoded", 415, "not-json"),
        (b'{"sessions": []}', "", 415, "not-json"),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_what_is_not_json_is_refused(
    bundle: Bundle, path: str, content: bytes, content_type: str, status: int, kind: str
) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            response = await made.client.post(path, content=content, headers={"Content-Type": content_type})
            assert response.status_code == status, response.text
            assert response.json()["type"] == f"urn:hetlm:problem:{kind}"
            assert MARK not in response.text

    asyncio.run(scenario())


def test_json_with_a_charset_is_taken_and_a_compressed_body_is_not(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            headers = {"Content-Type": 'Application/JSON; charset="UTF-8"'}
            assert (await made.client.post("/predict", content=b'{"sessions":[]}', headers=headers)).status_code == 200
            headers["Content-Encoding"] = "gzip"
            assert (await made.client.post("/predict", content=b"\x1f\x8b", headers=headers)).status_code == 415

    asyncio.run(scenario())


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("path", "limit"), [("/predict", 2**20), ("/predict/batch", 2**21)])
def test_a_large_body_is_refused_before_it_is_read(bundle: Bundle, path: str, limit: int, declared: bool) -> None:
    async def scenario() -> None:
        read = 0

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal read
            for _ in range(64):
                read += 2**16
                yield b" " * 2**16

        headers = {"Content-Type": "application/json"}
        if declared:
            headers["Content-Length"] = str(2**22)
        async with running(bundle, settings=Settings(batch_body_limit_bytes=2**21)) as made:
            response = await made.client.post(path, content=chunks(), headers=headers)
            assert response.status_code == 413
            assert response.json()["type"] == "urn:hetlm:problem:body-too-large"
            assert str(limit) in response.json()["detail"]
            assert response.headers["connection"] == "close"
        assert read <= (0 if declared else limit + 2**16)

    asyncio.run(scenario())


def test_a_false_length_helps_nobody(bundle: Bundle) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b" " * 2**16

    async def scenario() -> None:
        async with running(bundle) as made:
            headers = {"Content-Type": "application/json", "Content-Length": "5"}
            assert (await made.client.post("/predict", content=chunks(), headers=headers)).status_code == 413

    asyncio.run(scenario())


def test_a_body_of_just_the_limit_is_read(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            for length, status in ((2**20, 200), (2**20 + 1, 413)):
                body = b'{"sessions": []}'.ljust(length)
                response = await made.client.post(
                    "/predict", content=body, headers={"Content-Type": "application/json"}
                )
                assert response.status_code == status

    asyncio.run(scenario())


def test_a_body_that_does_not_come_is_not_waited_for(bundle: Bundle) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"sessions"'
        await asyncio.sleep(30)

    async def scenario() -> None:
        async with running(bundle, settings=Settings(body_timeout_seconds=0.05)) as made:
            response = await made.client.post(
                "/predict", content=endless(), headers={"Content-Type": "application/json"}
            )
            assert response.status_code == 408

    asyncio.run(scenario())


def test_other_addresses_and_methods(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            for method, path, status in (
                ("GET", f"/{MARK}", 404),
                ("GET", "/predict", 405),
                ("POST", "/livez", 405),
                ("GET", "/docs", 404),
                ("GET", "/metrics", 404),
            ):
                response = await made.client.request(method, path)
                assert response.status_code == status
                assert response.headers["content-type"] == "application/problem+json"
                assert response.json()["status"] == status
                assert MARK not in response.text
            assert "POST" in (await made.client.get("/predict")).headers["allow"]
            assert MARK not in made.log.getvalue()
            assert MARK not in await made.metrics()

    asyncio.run(scenario())


def test_a_bug_is_a_500_without_details(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(MARK)

    async def scenario() -> None:
        async with running(bundle) as made:
            monkeypatch.setattr("service.pipeline.history_of", broken)
            response = await made.predict({"sessions": SESSIONS})
            assert response.status_code == 500
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert problem["type"] == "urn:hetlm:problem:internal"
            assert MARK not in response.text
            [line] = [line for line in made.lines() if line["event"] == "request_failed"]
            assert (line["error"], line["request_id"]) == ("RuntimeError", problem["request_id"])
            assert any("broken" in place for place in line["where"])
            assert MARK not in made.log.getvalue()

    asyncio.run(scenario())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["sessions", "events", "options", "user_id", "x"])
parts = st.sampled_from(["started_at", "pages", "time", "url", "event", "samples", "seed", "decode", "strict", "y"])
times = st.sampled_from([AT, "2026-11-01", "1700000000", "2026-11-01T10:00:00", "2026-11-01T10:00:00.1+00:00"])
leaves = json_values | times | st.lists(st.sampled_from(["/", "/bags", MARK]), max_size=3)
almost = st.dictionaries(
    fields, json_values | st.dictionaries(parts, leaves) | st.lists(st.dictionaries(parts, leaves), max_size=3)
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=st.lists(json_values | almost, min_size=5, max_size=5))
def test_nothing_is_a_500(bundle: Bundle, bodies: list[Any]) -> None:
    async def scenario() -> None:
        async with running(bundle, engine=SlowEngine(tables(len(bundle.vocabulary)), 0.0)) as made:
            for body in bodies:
                content = json.dumps(body).encode("utf-8", "surrogatepass")
                for path, wrapped in (("/predict", content), ("/predict/batch", b'{"items": [%s]}' % content)):
                    response = await made.client.post(
                        path, content=wrapped, headers={"Content-Type": "application/json"}
                    )
                    assert response.status_code < 500
                    if path == "/predict/batch" and response.status_code == 200:
                        [item] = response.json()["items"]
                        assert item.get("problem", {}).get("status", 200) < 500

    asyncio.run(scenario())
