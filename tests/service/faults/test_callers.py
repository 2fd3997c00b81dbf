"""Callers who leave, crowds who ask the same, a clock that jumps: everybody gets the answer to their own question."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import random
import time
from collections import Counter
from functools import partial
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import service
from browsing.bundle import Bundle
from browsing.engine import GenerateRequest
from browsing.engine import Path as Sampled
from service.serve import bind, serve
from service.settings import Settings
from tests.service.faults.cancellations import cancel_at_random
from tests.service.faults.serving import serving
from tests.service.faults.traffic import Account, Fakes, Visitor, drive, tables
from tests.service.security.serving import both

CANCELLED = 1_000 if os.environ.get("HETLM_SOAK") else 200


class Gated(Fakes):
    """Answers while the gate is open; counts who is waiting at it."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(tables(bundle))
        self.gate = asyncio.Event()
        self.gate.set()
        self.inside = 0
        self.seconds = 0.0

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        self.inside += 1
        try:
            await self.gate.wait()
            await asyncio.sleep(self.seconds)
            return await super().generate(request)
        finally:
            self.inside -= 1


class Unsteady(Gated):
    """Takes now longer, now not so long."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.draw = random.Random(5)

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        self.seconds = self.draw.random() * 0.03
        return await super().generate(request)


def test_equal_questions_are_computed_once_and_answered_to_each(bundle: Bundle, people: list[Visitor]) -> None:
    async def scenario() -> None:
        engine = Gated(bundle)
        async with serving(bundle, engine) as served:
            await asyncio.sleep(0)
            engine.gate.clear()
            engine.requests.clear()
            body = people[0].body()
            calls = [
                asyncio.create_task(
                    served.client.post(
                        "/predict", json={**body, "user_id": f"u-{i}"}, headers={"X-Request-Id": f"r{i}"}
                    )
                )
                for i in range(10)
            ]
            other = asyncio.create_task(served.client.post("/predict", json=people[0].body(samples=17)))
            await served.until(lambda: engine.inside == 2 * (2 + len(bundle.outcome_ids())))
            calls[0].cancel()  # who began it
            await asyncio.gather(calls[0], return_exceptions=True)
            engine.gate.set()
            answers = [(await call).json() for call in calls[1:]]
            assert (await other).status_code == 200
            assert [answer["user_id"] for answer in answers] == [f"u-{i}" for i in range(1, 10)]
            assert [answer["request_id"] for answer in answers] == [f"r{i}" for i in range(1, 10)]
            assert all(answer["next_session"] == list(people[0].model.next_session) for answer in answers)
            asked = [r for r in engine.requests if r.samples == 16 and len(r.prompt) > 1 and not r.forbidden]
            assert len(asked) == 1
            assert await served.metric("hetlm_shared_predictions_total") == 9

    asyncio.run(scenario())


@pytest.mark.soak
def test_random_cancellations_give_nobody_anothers_answer(bundle: Bundle, people: list[Visitor]) -> None:
    """Of those who ask alone, together with others, and in batches; who began what others wait for hangs up, too."""

    async def scenario() -> None:
        engine = Unsteady(bundle)
        async with both(bundle, engine, max_in_flight=10_000) as (sockets, _):
            asked = len(engine.requests)
            address: tuple[str, int] = sockets.api.getsockname()[:2]
            tally = await cancel_at_random(address, people, CANCELLED, seed=23)
            assert tally.cancelled >= CANCELLED
            assert min(tally.unsent, tally.unanswered) > 0
            assert tally.answers > 0
            metric = partial(metric_of, sockets.metrics_url)
            assert await metric("hetlm_shared_predictions_total") > 0, "some were asked by several at once"
            while engine.inside or await metric("hetlm_in_flight"):  # noqa: ASYNC110 -- what nobody waits for is given up
                await asyncio.sleep(0.02)
            assert len(engine.requests) > asked
            async with httpx.AsyncClient(base_url=sockets.api_url, trust_env=False, timeout=60) as client:
                assert set((await drive(client, people)).kinds) == {"model"}

    asyncio.run(scenario())


async def metric_of(address: str, name: str) -> float:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        text = (await client.get(address)).text
    families = text_string_to_metric_families(text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def test_who_hangs_up_is_not_worked_for(bundle: Bundle, people: list[Visitor]) -> None:
    """Over real connections, through uvicorn."""

    async def scenario() -> None:
        settings = Settings(port=0, metrics_port=0, drain_seconds=5, lame_duck_seconds=0)
        engine = Gated(bundle)
        async with serving(bundle, engine) as served:
            sockets = bind(settings)
            ready = asyncio.Event()
            running = asyncio.create_task(serve(served.service, settings, sockets, ready.set))
            await ready.wait()
            engine.gate.clear()
            host, port = sockets.api.getsockname()
            writers = []
            for path, body in (
                ("/predict", people[0].body()),
                ("/predict", people[1].body()),
                ("/predict/batch", {"items": [visitor.body() for visitor in people[2:5]]}),
            ):
                content = json.dumps(body).encode()
                _, writer = await asyncio.open_connection(host, port)
                writer.write(
                    f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                await writer.drain()
                writers.append(writer)
            await served.until(lambda: engine.inside == 5 * (2 + len(bundle.outcome_ids())))
            for writer in writers:
                writer.transport.abort()
            await served.until(lambda: engine.inside == 0)
            assert not engine.gate.is_set()
            engine.gate.set()
            async with httpx.AsyncClient(base_url=sockets.api_url, trust_env=False, timeout=60) as client:
                assert set((await drive(client, people)).kinds) == {"model"}
            assert await served.metric("hetlm_requests_total", "/predict", "499") == 2
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            sockets.close()

    asyncio.run(scenario())


def test_a_clock_that_jumps(bundle: Bundle, people: list[Visitor], monkeypatch: pytest.MonkeyPatch) -> None:
    """By days, forwards and backwards, at every look: while all is well, and while a circuit opens and closes."""

    async def scenario() -> None:
        draw = random.Random(2)
        monkeypatch.setattr(time, "time", lambda: 1.8e9 + draw.uniform(-1e7, 1e7))
        engine = Gated(bundle)
        async with serving(bundle, engine) as served:
            total = Account()
            total.kinds += (await drive(served.client, people, rounds=2)).kinds
            assert set(total.kinds) == {"model"}
            engine.failures = [RuntimeError("a bug")] * 5
            account = await drive(served.client, people, width=1)
            assert account.kinds["fallback"] > 0
            await served.recovers(people)
            assert Counter(served.events())["circuit_opened"] <= 1

    asyncio.run(scenario())


def test_nothing_is_timed_by_the_wall_clock() -> None:
    """In everything between a request and its answer. (The pipeline reads the time of day for `as_of`, and no more.)"""
    root = Path(service.__file__).parent
    paths = [root / f"{name}.py" for name in ("api", "app", "batch", "health", "limits", "observe", "serve")]
    for path in (*paths, *(p for room in ("cache", "engines", "resilience") for p in (root / room).glob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("time", "time"), ("datetime", "now")}, path
