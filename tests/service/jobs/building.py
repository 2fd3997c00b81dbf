"""Jobs over an answer that needs no model, and their addresses; the caller is whom a header names."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems
from service.jobs.jobs import Jobs
from service.jobs.meter import Meter
from service.jobs.routes import batch_routes
from service.jobs.rules import Rules
from service.logs import logger
from service.scoring.inputs import Limits
from service.scoring.online import Online
from service.scoring.scorer import Scorer
from service.scoring.served import Answer, Served
from service.settings import Settings
from tests.service.scoring.building import Answering, documents
from tests.service.scoring.building import served as serving

NDJSON = {"content-type": "application/x-ndjson"}
HOUR = 3_600.0
ROWS = documents(25)


def lines(rows: list[dict[str, Any]] = ROWS) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


class Now:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1_790_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Named:
    """Stands in for the API keys: `X-Caller` is who asks; without it nothing says."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if b"x-caller" in headers:
                scope.setdefault("state", {})["caller"] = headers[b"x-caller"].decode()
        await self.app(scope, receive, send)


def make_jobs(
    root: Path,
    answer: Answer,
    *,
    log: io.StringIO | None = None,
    registry: CollectorRegistry | None = None,
    served: Callable[[], Served] | None = None,
    limits: Limits | None = None,
    chunk_rows: int = 10,
    width: int = 2,
    most: int = 20,
    clock: Callable[[], float] | None = None,
) -> Jobs:
    """`served`: by default always what `answer` answers."""
    own = logger("info", log or io.StringIO())
    online = Online(patience=1.0)
    scorer = Scorer(own, width=width, turn=online.turn, pauses=(0.0,))
    rules = Rules(limits or Limits(), chunk_rows, retention_hours=24.0)
    meter = Meter(registry or CollectorRegistry(), online)
    return Jobs(root, scorer, served or (lambda: serving(answer)), rules, meter, own, most=most, clock=clock)


async def at_once() -> None:
    """The engine is up."""


@dataclass
class Desk:
    """The addresses of jobs under way."""

    client: httpx.AsyncClient
    jobs: Jobs
    answering: Answering
    root: Path
    now: Now
    log: io.StringIO
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    async def send(self, contents: bytes, path: str = "/batches", **headers: str) -> httpx.Response:
        return await self.client.post(path, content=contents, headers={**NDJSON, **headers})

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=headers)

    async def made(self, contents: bytes, path: str = "/batches", **headers: str) -> str:
        response = await self.send(contents, path, **headers)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    async def until(self, job_id: str, *states: str, **headers: str) -> dict[str, Any]:
        while True:
            response = await self.get(f"/batches/{job_id}", **headers)
            assert response.status_code == 200, response.text
            document: dict[str, Any] = response.json()
            if document["state"] in states:
                return document
            await asyncio.sleep(0.01)

    async def at_rest(self) -> None:
        """Until no batch is worked on: one that has ended is cleaned up, too."""
        while (run := self.jobs._worker.run) is not None:
            await asyncio.wait((run.task,))
            await asyncio.sleep(0)

    def metrics(self) -> str:
        return generate_latest(self.registry).decode()

    def files(self) -> set[str]:
        """What lies below `jobs/`, by its path."""
        return {str(path.relative_to(self.root / "jobs")) for path in (self.root / "jobs").rglob("*")}


@asynccontextmanager
async def desk(
    root: Path,
    answering: Answering | None = None,
    *,
    settings: Settings | None = None,
    now: Now | None = None,
    own_clock: bool = False,
    **parts: Any,
) -> AsyncIterator[Desk]:
    """`own_clock`: the jobs', instead of `now`. `parts`: of `make_jobs`."""
    answering, now, log = answering or Answering(), now or Now(), io.StringIO()
    registry = CollectorRegistry()
    jobs = make_jobs(root, answering, log=log, registry=registry, clock=None if own_clock else now, **parts)
    app = FastAPI()
    app.add_middleware(Named)
    problems.install(app)
    app.include_router(batch_routes(jobs, settings or Settings()))
    async with jobs.running(at_once):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=60) as client:
            yield Desk(client, jobs, answering, root, now, log, registry)
