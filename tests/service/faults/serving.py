"""A service over any engine and any store, its client, and waiting for it to recover."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from browsing.bundle import Bundle
from browsing.encoder import Encoder
from browsing.engine import Engine
from service.app import Service, build
from service.cache.memory import MemoryStore
from service.cache.store import Store
from service.metrics import NO_BUNDLE
from service.settings import Settings
from tests.service.faults.traffic import Account, Visitor, drive
from tests.tiny import TinyEncoder

SETTINGS: dict[str, Any] = {"probe_seconds": 0.3, "engine_deadline_ms": 20_000}


@dataclass
class Served:
    service: Service
    client: httpx.AsyncClient
    log: io.StringIO

    async def metric(self, name: str, *labels: str) -> float:
        transport = httpx.ASGITransport(self.service.metrics_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://metrics") as client:
            text = (await client.get("/metrics")).text
        values = {
            (sample.name, *(value for label, value in sample.labels.items() if label != "bundle")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("bundle") != NO_BUNDLE
        }
        return values[name, *labels]

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.getvalue().splitlines()]

    async def recovers(self, people: Sequence[Visitor], *, seconds: float = 30.0) -> Account:
        """Waits until everybody is answered from the model; the account of that last round."""
        end = time.monotonic() + seconds
        while True:
            account = await drive(self.client, people)
            if set(account.kinds) == {"model"}:
                return account
            assert time.monotonic() < end, f"not recovered: {account.kinds}"
            await asyncio.sleep(0.05)

    async def until(self, holds: Callable[[], bool], *, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(
    bundle: Bundle,
    engine: Engine,
    *,
    store: Store | None = None,
    encoder: Encoder | None = None,
    settings: Mapping[str, object] | None = None,
) -> AsyncIterator[Served]:
    log = io.StringIO()
    service = build(
        Settings.model_validate({**SETTINGS, **(settings or {})}),
        bundle,
        engine,
        encoder or TinyEncoder(),
        store or MemoryStore(),
        stream=log,
    )
    async with service.app.router.lifespan_context(service.app):
        await service.health.started()
        transport = httpx.ASGITransport(service.app)  # an exception that leaves the application fails the test
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
            yield Served(service, client, log)
