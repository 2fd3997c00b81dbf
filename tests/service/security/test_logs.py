"""Recognisable words in every place that may hold something personal, sent to every route while everything fails that
can: none of them is in the log, nor in a problem document."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from browsing.bundle import Bundle
from browsing.encoder import Vectors
from browsing.engine import EngineError, GenerateRequest
from browsing.engine import Path as Sampled
from browsing.engines.table import TableEngine
from service.app import Service, choose_store
from service.cache.store import Store, StoreError
from service.serve import Sockets
from service.settings import Settings
from tests.service.building import tables
from tests.service.redis_server import RedisServer
from tests.service.security.keyed import bearer, keys
from tests.service.security.serving import both
from tests.tiny import TinyEncoder

CANARY = "zqcanary"
"""Stands in every personal word below, and nowhere else."""
AT = "2026-11-01T10:00:00Z"
USER = f"{CANARY}-user@example.org"
PAGE = f"/{CANARY}-page"
VISIT: dict[str, Any] = {"user_id": USER, "sessions": [{"started_at": AT, "pages": ["/", PAGE, "/bags"]}]}
EVENTS: dict[str, Any] = {
    "user_id": USER,
    "events": [
        {
            "time": AT,
            "url": f"https://{CANARY}.example{PAGE}?q={CANARY}",
            "event": f"{CANARY}_event",
            "session_id": USER,
        }
    ],
}


STRICT = {"options": {"strict": True, "samples": 3}}
RIGHT: list[Any] = [VISIT, EVENTS, {**VISIT, **STRICT}, {"items": [VISIT, EVENTS, {**VISIT, **STRICT}, USER]}]
"""What gets as far as to whatever fails behind the routes."""


def bodies() -> dict[str, Any]:
    """Wrong ones, and ones whose answers are not the usual ones."""
    return {
        "one deadline": {**VISIT, "options": {"deadline_ms": 1}},
        "greedy": {**EVENTS, "options": {"decode": "greedy"}},
        "an unknown member": {**VISIT, f"{CANARY}@": USER},
        "a member like a name": {**VISIT, "options": {"seed": USER}},
        "a page too long": {"sessions": [{"started_at": AT, "pages": [PAGE * 60]}]},
        "a time in words": {"sessions": [{"started_at": USER, "pages": [PAGE]}]},
        "no page": {"events": [{"time": AT, "url": f"http://[{CANARY}", "event": CANARY}]},
        "a reserved page": {"events": [{"time": AT, "url": PAGE}, {"time": AT, "url": "[EOS]"}]},
        "a user too long": {"user_id": USER * 20, "sessions": []},
        "text": USER,
        "a batch": {"items": [VISIT, EVENTS, {**VISIT, **STRICT}, {f"{CANARY}@": 1}, USER, {"sessions": [USER]}]},
        "a batch of nothing": {"items": {USER: PAGE}},
        "a file": {"file": f"{CANARY}.parquet"},
        "a file outside": {"file": f"../{CANARY}"},
        "too many values": {"user_id": USER, "sessions": [[]] * 31_000},
    }


def raw() -> list[tuple[str, bytes]]:
    """Content types and bodies that are no JSON document."""
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in (VISIT, EVENTS, {"user_id": USER, PAGE: 1}, USER))
    return [
        ("application/x-ndjson", lines),
        ("application/x-ndjson", lines + b'{"user_id": "' + USER.encode()),
        ("application/gzip", gzip.compress(lines)),
        ("application/gzip", gzip.compress(lines)[:-9]),
        ("application/x-ndjson", b"\xff" + PAGE.encode()),
        ("application/vnd.apache.parquet", b"PAR1" + PAGE.encode() * 9 + b"PAR1"),
        ("application/json", b'{"user_id": "' + USER.encode() + b'", '),
        ("application/json", b'{"user_id": "' + USER.encode() + b'\\ud800"}'),
        ("text/plain", USER.encode()),
        (CANARY, USER.encode()),
        (f"application/json; charset={CANARY}", b"{}"),
        ("multipart/form-data; boundary=x", f"--x\r\n{USER}".encode()),
    ]


class Talkative(TableEngine):
    """Fails as told, and repeats what it was asked."""

    def __init__(self, size: int, clusters: int) -> None:
        super().__init__(tables(size, clusters))
        self.error: Exception | None = None

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        if self.error is not None:
            raise self.error
        return await super().generate(request)


class TalkativeEncoder(TinyEncoder):
    def __init__(self) -> None:
        self.fails = False

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        if self.fails:
            raise ValueError(f"cannot read {sessions}: {PAGE}")
        return super().encode(sessions)


class TalkativeStore:
    """Down, or with a bug that nobody expected."""

    def __init__(self) -> None:
        self.error: Exception = StoreError("down")

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        raise self.error

    async def put_many(self, records: Mapping[bytes, bytes]) -> None:
        raise self.error

    async def close(self) -> None:
        return


@dataclass
class Heard:
    """What came back, apart: problem documents, and answers, which may hold what was asked."""

    problems: list[str] = field(default_factory=list)
    answers: list[httpx.Response] = field(default_factory=list)
    routes: set[tuple[str, str]] = field(default_factory=set)
    batches: list[str] = field(default_factory=list)

    def take(self, response: httpx.Response) -> None:
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/problem+json", response.text
            self.problems.append(response.text + str(response.headers))
            return
        self.answers.append(response)
        if response.status_code == 202:
            self.batches.append(response.json()["id"])
        for line in response.text.splitlines() if "json" in response.headers.get("content-type", "") else ():
            self.problems += [json.dumps(problem) for problem in _problems(json.loads(line))]


def _problems(document: Any) -> Iterator[Any]:
    """Problem documents anywhere inside an answer."""
    if isinstance(document, dict):
        if str(document.get("type", "")).startswith("urn:hetlm:problem:"):
            yield document
        for value in document.values():
            yield from _problems(value)
    elif isinstance(document, list):
        for value in document:
            yield from _problems(value)


async def drive(app: FastAPI, client: httpx.AsyncClient, heard: Heard, *, all_kinds: bool = False) -> None:
    """What is right to every route there is, and to some that there are not; `all_kinds`: also what is wrong, and of
    every content type."""
    routes = [(method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in route.methods]
    nowhere = [("GET", PAGE), ("POST", f"/predict/{CANARY}"), ("PATCH", "/predict"), ("GET", "/openapi.json")]
    for method, path in [*routes, *nowhere]:
        heard.routes.add((method, path))
        for own in (f"{CANARY}-id", f"..%2f{CANARY}", *heard.batches[:1]) if "{" in path else ("",):
            for request in requests(method, all_kinds):
                heard.take(await client.request(method, re.sub(r"\{[^}]*\}", own, path), **request))


def requests(method: str, all_kinds: bool) -> Iterator[dict[str, Any]]:
    """Keyword arguments of a request."""
    yield {"params": {"seed": CANARY, f"{CANARY}@": USER}}
    if method not in ("POST", "PUT", "PATCH"):
        return
    for body in [*RIGHT, *(bodies().values() if all_kinds else ())]:
        yield {"json": body}
    if all_kinds:
        yield {"json": RIGHT[-1], "headers": {"Accept": "application/x-ndjson"}}
        for key in (f"{CANARY}-key", f"{CANARY} key"):
            yield {"json": {"file": f"{CANARY}.parquet"}, "headers": {"Idempotency-Key": key}}
    for kind, body in raw() if all_kinds else raw()[:1]:
        yield {"content": body, "headers": {"Content-Type": kind}}


def garbage(sockets: Sockets) -> None:
    """What is no HTTP, and what ends too early."""
    for sent in (
        f"{USER}\r\n\r\n",
        f"GET /{USER} {CANARY}/9\r\n\r\n",
        f"POST /predict HTTP/1.1\r\nContent-Length: {CANARY}\r\n\r\n",
        f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{USER}",
        f"GET / HTTP/1.1\r\nX-{CANARY}: " + CANARY * 9_000 + "\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {CANARY}\r\n\r\n",
    ):
        with socket.create_connection(sockets.api.getsockname()[:2], timeout=30) as own:
            own.sendall(sent.encode())


async def finished(client: httpx.AsyncClient, heard: Heard) -> None:
    """Wait for the batches, and read what came of them: results are answers, and name what was wrong with a row."""
    for _ in range(600):
        listed = (await client.get("/batches")).json()["batches"]
        if all(batch["state"] not in ("queued", "running") for batch in listed):
            break
        await asyncio.sleep(0.1)
    for batch in listed:
        heard.take(await client.get(f"/batches/{batch['id']}/results", headers={"Accept": "application/x-ndjson"}))


async def campaign(
    service: Service,
    sockets: Sockets,
    engine: Talkative,
    encoder: TalkativeEncoder,
    store: Store | None,
    client: httpx.AsyncClient,
    all_kinds: bool,
) -> Heard:
    """The whole drive, and what is right again for each thing that fails."""
    heard = Heard()
    await drive(service.app, client, heard, all_kinds=all_kinds)
    for error in (EngineError(f"refused: {PAGE}"), RuntimeError(f"a bug: {USER}"), TimeoutError(PAGE)):
        engine.error = error
        await drive(service.app, client, heard)
    engine.error = None
    encoder.fails = True
    await drive(service.app, client, heard)
    encoder.fails = False
    if isinstance(store, TalkativeStore):
        store.error = RuntimeError(f"a bug: {PAGE}")
        await drive(service.app, client, heard)
    async with httpx.AsyncClient(
        base_url=str(sockets.admin_url).removesuffix("/admin"), headers=client.headers
    ) as boss:
        await drive(service.admin_app, boss, heard)
    await asyncio.to_thread(garbage, sockets)
    await finished(client, heard)
    return heard


@pytest.fixture
def _loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.mark.usefixtures("_loggers_as_before")
@pytest.mark.parametrize("failing", ["nothing more", "a broken store", "a dead Redis", "a bug behind the routes"])
def test_no_log_and_no_problem_says_what_was_sent(
    bundle: Bundle, tmp_path: Path, failing: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [secret] = keys(tmp_path / "keys.json", ("shop", ("predict", "batch", "admin")))
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / f"{CANARY}.parquet").write_bytes(b"PAR1" + USER.encode())
    redis = RedisServer(tmp_path)
    settings: dict[str, Any] = {
        "log_level": "debug",
        "admin_port": 0,
        "api_keys_file": tmp_path / "keys.json",
        "rate_per_second": 1e5,
        "rate_burst": 1_000_000,
        "batch_dir": tmp_path / "batches",
        "batch_input_dir": folder,
        "batch_max_unfinished": 10_000,
        "batch_patience_seconds": 0,
        "probe_seconds": 0.05,
    }
    stored: Store | None = TalkativeStore() if failing == "a broken store" else None
    if failing == "a dead Redis":
        settings |= {"redis_url": redis.url, "cache_secret": f"{CANARY} of a deployment", "redis_back_off_seconds": 0}
    engine, encoder, log = Talkative(len(bundle.vocabulary), bundle.clusters), TalkativeEncoder(), io.StringIO()

    def broken(*_: object) -> None:
        raise KeyError(PAGE)

    async def scenario() -> Heard:
        store = choose_store(Settings.model_validate(settings)) if failing == "a dead Redis" else stored
        async with both(bundle, engine, encoder, store, log, **settings) as (sockets, service):
            if failing == "a bug behind the routes":
                monkeypatch.setattr("service.pipeline.history_of", broken)
            async with httpx.AsyncClient(base_url=sockets.api_url, headers=bearer(secret), timeout=120) as client:
                heard = await campaign(service, sockets, engine, encoder, store, client, failing == "nothing more")
            assert {
                (m, r.path) for r in service.app.routes if isinstance(r, APIRoute) for m in r.methods
            } <= heard.routes
            return heard

    heard = asyncio.run(scenario())
    redis.remove()
    out, err = capfd.readouterr()
    everything = log.getvalue() + out + err
    events = {json.loads(line)["event"] for line in log.getvalue().splitlines()}
    assert {"request", "engine_failed" if failing != "a bug behind the routes" else "request_failed"} <= events
    assert any(response.status_code == 200 and CANARY in response.text for response in heard.answers) or failing == (
        "a bug behind the routes"
    ), "the words did go in, and came back to their caller"
    assert {json.loads(line).get("level") for line in log.getvalue().splitlines()} >= {"debug", "info"}
    assert len(heard.problems) > 20
    for text in (*heard.problems, *everything.splitlines()):
        assert CANARY not in text.lower()
        assert secret not in text
