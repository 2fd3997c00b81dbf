from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from browsing.bundle import Bundle
from browsing.engine import EngineError
from service.batch import in_order
from service.settings import Settings
from tests.service.building import SESSIONS, Made, SlowEngine, running, same, tables

NDJSON = {"Accept": "application/x-ndjson"}
GOOD = {"sessions": SESSIONS}
BAD = {"sessions": [{"started_at": "2026-11-01T10:00:00Z", "pages": []}]}


async def items(made: Made, bodies: list[Any], **headers: str) -> list[dict[str, Any]]:
    response = await made.client.post("/predict/batch", json={"items": bodies}, headers=headers)
    assert response.status_code == 200, response.text
    if headers:
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.text.splitlines()]
    assert set(response.json()) == {"items"}
    return list(response.json()["items"])


@pytest.mark.parametrize("headers", [{}, NDJSON])
def test_answers_come_in_order_and_a_wrong_item_harms_no_other(bundle: Bundle, headers: dict[str, str]) -> None:
    bodies: list[Any] = [{"user_id": "a", **GOOD}, BAD, {"user_id": "c", "sessions": []}, 7, {"user_id": "e", **GOOD}]

    async def scenario() -> None:
        async with running(bundle) as made:
            answers = await items(made, bodies, **headers)
            assert [answer.get("user_id") for answer in answers] == ["a", None, "c", None, "e"]
            assert answers[2]["fallback"] == "no_history"
            single = await made.answer(bodies[0])
            assert same(answers[0]) == same(single)
            for place, pointer in ((1, "/items/1/sessions/0/pages"), (3, "/items/3")):
                assert set(answers[place]) == {"problem"}
                problem = answers[place]["problem"]
                assert (problem["status"], problem["errors"][0]["pointer"]) == (422, pointer)
            ids = [a.get("request_id") or a["problem"]["request_id"] for a in answers]
            assert [own.rsplit(".", 1)[1] for own in ids] == list("01234")
            assert len({own.rsplit(".", 1)[0] for own in ids}) == 1

    asyncio.run(scenario())


def test_an_item_that_fails_harms_no_other(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(bundle, settings=Settings(batch_concurrency=1)) as made:
            made.engine.failures = [EngineError("gone")]
            strict = {**GOOD, "options": {"strict": True}}
            answers = await items(made, [strict, strict, GOOD])
            assert answers[0]["problem"]["status"] == 503
            assert [answer.get("fallback", "problem") for answer in answers[1:]] == [None, None]

            def broken(*_: object) -> None:
                monkeypatch.undo()
                raise RuntimeError("zq-personal-zq")

            monkeypatch.setattr("service.pipeline.history_of", broken)
            failed, fine = await items(made, [GOOD, GOOD])
            assert failed["problem"]["status"] == 500
            assert fine["fallback"] is None
            assert "zq-personal-zq" not in made.log.getvalue() + json.dumps(failed)

    asyncio.run(scenario())


def test_a_thousand_items_and_no_more(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            bodies = [{"user_id": str(i), "sessions": []} for i in range(1_000)]
            answers = await items(made, bodies)
            assert [answer["user_id"] for answer in answers] == [str(i) for i in range(1_000)]
            for wrong, pointer in (([*bodies, bodies[0]], "/items"), ([], "/items"), ("x", "/items")):
                response = await made.client.post("/predict/batch", json={"items": wrong})
                assert response.status_code == 422
                assert response.json()["errors"][0]["pointer"] == pointer
            for body in ({}, {"items": [GOOD], "more": 1}, [GOOD]):
                assert (await made.client.post("/predict/batch", json=body)).status_code == 422

    asyncio.run(scenario())


def test_so_many_at_once_and_no_more(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine = SlowEngine(tables(len(bundle.vocabulary)), 0.01)
        async with running(bundle, engine=engine, settings=Settings(batch_concurrency=3)) as made:
            await items(made, [{**GOOD, "options": {"seed": i}} for i in range(12)])  # equal ones are shared
            calls = 2 + len(bundle.outcome_ids())  # the free paths, the greedy one, one set per outcome
            assert engine.most_running == 3 * calls

    asyncio.run(scenario())


def test_each_answer_is_given_as_soon_as_it_and_those_in_front_are_ready() -> None:
    async def scenario() -> None:
        gates = [asyncio.Event() for _ in range(4)]
        started: list[int] = []

        async def work(place: int) -> int:
            started.append(place)
            await gates[place].wait()
            return place * 10

        stream = in_order(range(4), work, 2)
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gates[1].set()
        await asyncio.sleep(0.01)
        assert not first.done(), "1 waits for 0"
        assert started == [0, 1]
        gates[0].set()
        assert await first == 0
        assert await anext(stream) == 10, "before 2 is ready"
        gates[2].set()
        gates[3].set()
        assert [answer async for answer in stream] == [20, 30]

    asyncio.run(scenario())


def test_who_leaves_takes_what_is_under_way_along() -> None:
    async def scenario() -> None:
        cancelled: list[int] = []

        async def work(place: int) -> int:
            if place == 0:
                return 0
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.append(place)
                raise
            return place

        stream = in_order(range(9), work, 3)
        assert await anext(stream) == 0
        await asyncio.sleep(0)
        await stream.aclose()
        assert cancelled == [1, 2, 3][: len(cancelled)]
        assert cancelled

    asyncio.run(scenario())
