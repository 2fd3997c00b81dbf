"""More than can be answered: who is let in is answered rightly and in time, who is not is told so at once. All of it in
virtual time: what an engine's calls take is all that takes any."""

from __future__ import annotations

import asyncio

import pytest

from browsing.bundle import Bundle
from browsing.engine import GenerateRequest
from browsing.engine import Path as Sampled
from tests.service.faults.serving import serving
from tests.service.faults.traffic import Account, Fakes, Visitor, drive, kind_of, tables
from tests.service.faults.virtual import passing

DEADLINE = 1.5


class OneAtATime(Fakes):
    """Every cluster answers one call after another, each in `seconds`."""

    def __init__(self, bundle: Bundle, seconds: float) -> None:
        super().__init__(tables(bundle))
        self.seconds = seconds
        self.locks = [asyncio.Lock() for _ in range(bundle.clusters)]

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        async with self.locks[request.cluster]:
            await asyncio.sleep(self.seconds)
            return await super().generate(request)


def test_what_cannot_be_answered_in_time_is_refused_at_once(
    bundle: Bundle, people: list[Visitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times what one cluster's engine can take, for a while; its neighbour has little to do and answers all."""

    async def scenario() -> None:
        engine = OneAtATime(bundle, 0.02)
        account, refusals, waits = Account(), list[float](), list[float]()
        now = asyncio.get_running_loop().time
        async with serving(bundle, engine, settings={"engine_deadline_ms": 60_000}) as served:

            async def ask(visitor: Visitor, seed: int) -> None:
                began = now()
                body = visitor.body(deadline_ms=int(DEADLINE * 1000))
                body["options"]["seed"] = seed  # all differ: nothing is shared
                response = await served.client.post("/predict", json=body)
                took = now() - began
                if response.status_code == 200:
                    account.enter(visitor.cluster, "fallback" if response.json()["fallback"] else "model")
                    waits.append(took)
                else:
                    account.enter(visitor.cluster, kind_of(visitor, response))
                    refusals.append(took)

            hot, calm = ([v for v in people if v.cluster == k] for k in (0, 1))
            for visitor in calm:
                await ask(visitor, 0)
            tasks = []
            for i in range(160):
                tasks.append(asyncio.create_task(ask(hot[i % len(hot)], i)))
                if i % 20 == 0:
                    tasks.append(asyncio.create_task(ask(calm[i % len(calm)], i)))
                await asyncio.sleep(0.02)
            await asyncio.gather(*tasks)
            hot_kinds, calm_kinds = account.per_cluster[0], account.per_cluster[1]
            assert hot_kinds["overloaded"] > 20
            assert hot_kinds["model"] > 10, "it goes on answering"
            assert set(calm_kinds) == {"model"}, "a hot cluster costs the others nothing"
            assert max(refusals) == 0.0, "at once, not when the time is up"
            assert max(waits) <= DEADLINE, "the answer or the fallback, by then"
            assert await served.metric("hetlm_overloaded_total", "late") == hot_kinds["overloaded"]
            assert await served.metric("hetlm_circuit_open", "1") == 0
            engine.seconds = 0.0
            await served.recovers(people)

    passing(scenario, monkeypatch)


def test_beyond_the_limit_of_predictions_under_way(
    bundle: Bundle, people: list[Visitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        engine = OneAtATime(bundle, 0.0)
        async with serving(bundle, engine, settings={"max_in_flight": 4}) as served:
            engine.seconds = 0.05
            account = await drive(served.client, people, width=12)
            assert set(account.kinds) == {"model", "overloaded"}
            assert await served.metric("hetlm_overloaded_total", "full") == account.kinds["overloaded"]
            engine.seconds = 0.0
            assert set((await drive(served.client, people, width=4)).kinds) == {"model"}

    passing(scenario, monkeypatch)


def test_items_of_a_batch_wait_instead(bundle: Bundle, people: list[Visitor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a crowd that is refused, and with less time each than they wait for their turn."""

    async def scenario() -> None:
        engine = OneAtATime(bundle, 0.0)
        settings = {"max_in_flight": 4, "batch_concurrency": 2}
        async with serving(bundle, engine, settings=settings) as served:
            engine.seconds = 0.03
            items = [visitor.body(deadline_ms=5_000) for visitor in people]
            batches = [
                asyncio.create_task(served.client.post("/predict/batch", json={"items": items})) for _ in range(3)
            ]
            account = await drive(served.client, people, rounds=2, width=12)
            assert account.kinds["overloaded"] > 0
            for batch in batches:
                answers = (await batch).json()["items"]
                assert [answer.get("user_id") for answer in answers] == [visitor.user for visitor in people]
                for visitor, answer in zip(people, answers, strict=True):
                    assert answer["next_session"] in (
                        list(visitor.model.next_session),
                        list(visitor.fallback.next_session),
                    )

    passing(scenario, monkeypatch)
