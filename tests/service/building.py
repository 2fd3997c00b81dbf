"""A service over a tiny bundle, small enough to be made anew in every test."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from browsing.bundle import Bundle
from browsing.encoder import Encoder, Vectors
from browsing.engine import GenerateRequest
from browsing.engine import Path as Sampled
from browsing.engines.table import TableEngine
from browsing.vocabulary import EOS
from service.app import Service, build
from service.cache.memory import MemoryStore
from service.cache.store import Store
from service.settings import Settings
from tests.tiny import TinyEncoder

SESSIONS: list[dict[str, Any]] = [
    {"started_at": "2026-11-01T10:00:00Z", "pages": ["/", "/bags"]},
    {"started_at": "2026-11-02T10:00:00+01:00", "pages": ["/", "/bags", "/bags/tote"]},
]


def tables(size: int, clusters: int = 2, seed: int = 3) -> list[NDArray[np.float64]]:
    """A random first-order model per cluster; a session ends after three pages or so."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(clusters):
        table = generator.random((size, size)) ** 3
        table[:, EOS] = 0.3 * table.sum(1)
        made.append(table / table.sum(1, keepdims=True))
    return made


class SlowEngine(TableEngine):
    """Takes its time, and keeps no deadline."""

    def __init__(self, tables: Sequence[NDArray[np.float64]], seconds: float) -> None:
        super().__init__(tables)
        self.seconds = seconds
        self.running = 0
        self.most_running = 0

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.seconds)
            return await super().generate(request)
        finally:
            self.running -= 1


class CountingEncoder(TinyEncoder):
    """Remembers every batch; `error` is raised instead of an answer."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[str, ...]]] = []
        self.error: Exception | None = None

    @property
    def encoded(self) -> list[tuple[str, ...]]:
        return [session for batch in self.batches for session in batch]

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        self.batches.append([tuple(session) for session in sessions])
        if self.error is not None:
            raise self.error
        return super().encode(sessions)


@dataclass
class Made:
    """A running service, its parts, and a client of it."""

    service: Service
    client: httpx.AsyncClient
    engine: TableEngine
    log: io.StringIO = field(default_factory=io.StringIO)

    async def predict(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        return await self.client.post("/predict", json=body, headers=headers)

    async def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        response = await self.predict(body)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    async def metrics(self) -> str:
        transport = httpx.ASGITransport(self.service.metrics_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://metrics") as client:
            return (await client.get("/metrics")).text

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@asynccontextmanager
async def running(
    bundle: Bundle,
    *,
    engine: TableEngine | None = None,
    encoder: Encoder | None = None,
    store: Store | None = None,
    settings: Settings | None = None,
    wait: bool = True,
) -> AsyncIterator[Made]:
    """`wait`: until the engine is started."""
    engine = engine or TableEngine(tables(len(bundle.vocabulary), bundle.clusters))
    log = io.StringIO()
    service = build(
        settings or Settings(),
        bundle,
        engine,
        encoder or TinyEncoder(),
        store or MemoryStore(),
        stream=log,
    )
    async with service.app.router.lifespan_context(service.app):
        if wait:
            await service.health.started()
        transport = httpx.ASGITransport(service.app)  # an exception that leaves the application fails the test
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield Made(service, client, engine, log)


def same(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what may differ between equal requests."""
    return {name: value for name, value in answer.items() if name not in ("request_id", "took_ms", "embedding")}
