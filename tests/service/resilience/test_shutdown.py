"""The end of the service: announced, waited for, and honest. Real signals, real connections, this process."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import ClassVar

import httpx
import pytest

from browsing.bundle import Bundle
from service.app import build
from service.cache.memory import MemoryStore
from service.resilience.shutdown import Shutdown
from service.serve import bind, serve
from service.settings import Settings
from tests.loadtest.virtual import passing
from tests.service.building import SESSIONS, SlowEngine, tables
from tests.tiny import TinyEncoder


@asynccontextmanager
async def served(bundle: Bundle, engine: SlowEngine, **settings: float) -> AsyncIterator[httpx.AsyncClient]:
    own = Settings.model_validate({"port": 0, "metrics_port": 0, "engine_deadline_ms": 60_000, **settings})
    service = build(own, bundle, engine, TinyEncoder(), MemoryStore(), stream=io.StringIO())
    sockets = bind(own)
    up = asyncio.Event()
    server = asyncio.create_task(serve(service, own, sockets, up.set))
    await up.wait()
    try:
        async with httpx.AsyncClient(base_url=sockets.api_url, trust_env=False, timeout=60) as client:
            yield client
        await asyncio.wait_for(server, 30)
    finally:
        sockets.close()


class Watched(Shutdown):
    """Tells of the signal, and ends the lame duck when told: it lasts as long as the test needs."""

    made: ClassVar[list[Watched]] = []

    def __init__(
        self, lame_duck: float, announce: Callable[[], None], close: Callable[[], None], force: Callable[[], None]
    ) -> None:
        self.signalled = asyncio.Event()
        self.over = close
        super().__init__(lame_duck, announce, close, force)
        self.made.append(self)

    def on_signal(self, number: signal.Signals) -> None:
        super().on_signal(number)
        self.signalled.set()


def test_between_the_signal_and_the_end_new_requests_are_taken(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.serve.Shutdown", Watched)
    monkeypatch.setattr(Watched, "made", [])

    async def scenario() -> None:
        engine = SlowEngine(tables(len(bundle.vocabulary)), 0.0)
        async with served(bundle, engine, lame_duck_seconds=300.0) as client:
            assert (await client.get("/readyz")).status_code == 200
            os.kill(os.getpid(), signal.SIGTERM)
            [shutdown] = Watched.made
            await shutdown.signalled.wait()
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.headers["connection"]) == (503, "close")
            assert int(ready.headers["retry-after"]) > 0
            assert (await client.get("/livez")).status_code == 200
            answer = await client.post("/predict", json={"sessions": SESSIONS})
            assert (answer.status_code, answer.json()["fallback"]) == (200, None)
            shutdown.over()
            while True:  # until nobody listens any more
                try:
                    await client.get("/livez")
                except httpx.TransportError:
                    break

    asyncio.run(scenario())


def test_who_has_no_answer_when_the_time_is_over_is_told_so(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine = SlowEngine(tables(len(bundle.vocabulary)), 0.0)
        async with served(bundle, engine, lame_duck_seconds=0.0, drain_seconds=1) as client:
            engine.seconds = 50.0
            call = asyncio.create_task(client.post("/predict", json={"sessions": SESSIONS}))
            while not engine.running:  # noqa: ASYNC110 -- the engine of many tests, which tells nobody
                await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            response = await call
            assert response.status_code == 503
            assert response.json()["type"] == "urn:hetlm:problem:not-ready"
            assert int(response.headers["retry-after"]) > 0

    asyncio.run(scenario())


def test_the_second_signal_does_not_wait(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine = SlowEngine(tables(len(bundle.vocabulary)), 0.0)
        began = time.monotonic()
        async with served(bundle, engine, lame_duck_seconds=300.0, drain_seconds=300) as client:
            for _ in range(2):
                assert (await client.get("/livez")).status_code == 200
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(0.1)
        assert time.monotonic() - began < 60

    asyncio.run(scenario())


def test_the_order_of_things() -> None:
    async def scenario() -> None:
        said: list[str] = []
        for number, lame_duck, expected in (
            (signal.SIGTERM, 30.0, ["announce", "close"]),
            (signal.SIGTERM, 0.0, ["announce", "close"]),
            (signal.SIGINT, 300.0, ["announce", "close"]),
        ):
            said.clear()
            end = Shutdown(lame_duck, *(partial(said.append, word) for word in ("announce", "close", "force")))
            assert not end.leaving
            end.on_signal(number)
            assert end.leaving
            assert said == (["announce"] if number == signal.SIGTERM and lame_duck else expected), "not yet"
            await asyncio.sleep(lame_duck + 0.01)
            assert said == expected
            end.on_signal(number)
            assert said == [*expected, "force"]
        said.clear()
        end = Shutdown(30.0, *(partial(said.append, word) for word in ("announce", "close", "force")))
        end.on_signal(signal.SIGTERM)
        end.cancel()
        await asyncio.sleep(60)
        assert said == ["announce"]

    passing(scenario())
