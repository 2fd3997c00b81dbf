"""Batches as a part of the whole service."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pyarrow.parquet as pq

from browsing.bundle import Bundle
from browsing.engine import GenerateRequest
from browsing.engine import Path as Sampled
from browsing.engines.table import TableEngine
from service.jobs.uploads import TYPES
from service.settings import Settings
from tests.service.building import SESSIONS, running, tables
from tests.service.jobs.building import lines


def test_the_whole_service_scores_files(bundle: Bundle, tmp_path: Path) -> None:
    """With the real pipeline, the real addresses, and their document."""
    settings = Settings(batch_dir=tmp_path / "jobs")

    async def scenario() -> None:
        async with running(bundle, settings=settings) as made:
            body = lines([{"user_id": "zq-user", "sessions": SESSIONS}, {"sessions": []}])
            response = await made.client.post(
                "/batches?seed=3&as_of=2026-12-01T00:00:00Z", content=body, headers={"content-type": "application/gzip"}
            )
            assert response.status_code == 202, response.text
            path = response.headers["location"]
            while (document := (await made.client.get(path)).json())["state"] != "done":
                assert document["state"] in ("queued", "running")
                await asyncio.sleep(0.02)
            rows = pq.read_table(io.BytesIO((await made.client.get(path + "/results")).content)).to_pylist()
            single = await made.answer({"user_id": "zq-user", "sessions": SESSIONS, "options": {"seed": 3}})
            assert rows[0]["next_session"] == single["next_session"]
            assert rows[0]["outcome_cart"]["probability"] == single["outcomes"]["cart"]["probability"]
            assert rows[1]["fallback"] == "no_history"
            assert (await made.client.get(f"{path}/more")).status_code == 404
            api = (await made.client.get("/openapi.json")).json()
            assert {"/batches", "/batches/{batch_id}", "/batches/{batch_id}/results"} <= set(api["paths"])
            submit = api["paths"]["/batches"]["post"]
            assert set(submit["requestBody"]["content"]) == {*TYPES, "application/json"}
            names = {parameter["name"] for parameter in submit["parameters"]}
            assert {"Idempotency-Key", "samples", "seed", "as_of"} <= names
            assert "HTTPValidationError" not in json.dumps(api)
            while 'hetlm_batch_jobs{state="done"} 1.0' not in (text := await made.metrics()):
                assert 'hetlm_batch_jobs{state="failed"} 0.0' in text
                await asyncio.sleep(0.02)
            assert 'hetlm_requests_total{route="/batches/{batch_id}/results",status="200"} 1.0' in text
            assert "zq-user" not in made.log.getvalue()

    asyncio.run(scenario())
    document = json.dumps(sorted(str(path) for path in (tmp_path / "jobs").rglob("*")))
    assert "input" not in document


class GatedEngine(TableEngine):
    """Answers nobody before its gate is opened."""

    def __init__(self, size: int) -> None:
        super().__init__(tables(size))
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        self.asked.set()
        await self.gate.wait()
        return await super().generate(request)


def test_rows_wait_while_somebody_is_online(bundle: Bundle, tmp_path: Path) -> None:
    settings = Settings(batch_dir=tmp_path / "jobs", batch_patience_seconds=60)

    async def scenario() -> None:
        engine = GatedEngine(len(bundle.vocabulary))
        async with running(bundle, engine=engine, settings=settings) as made:
            online = asyncio.ensure_future(made.answer({"sessions": SESSIONS, "options": {"deadline_ms": 60_000}}))
            await engine.asked.wait()
            new_visitor = lines([{"sessions": []}])  # its answer needs no engine
            response = await made.client.post("/batches", content=new_visitor, headers={"content-type": TYPES[0]})
            path = response.headers["location"]
            await asyncio.sleep(0.5)
            waiting = (await made.client.get(path)).json()
            assert (waiting["state"] in ("queued", "running"), waiting["done"]) == (True, 0)
            engine.gate.set()
            assert (await online)["fallback"] is None
            while (document := (await made.client.get(path)).json())["state"] != "done":
                assert document["state"] in ("queued", "running")
                await asyncio.sleep(0.02)
            assert document["done"] == 1

    asyncio.run(scenario())


def test_without_a_directory_there_are_no_batches(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with running(bundle) as made:
            assert (await made.client.get("/batches")).status_code == 404

    asyncio.run(scenario())
