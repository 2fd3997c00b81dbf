"""The addresses below `/batches`: hand in, look up, fetch, delete; each for its owner alone."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from service.jobs.uploads import TYPES
from service.scoring.inputs import Limits
from service.settings import Settings
from tests.service.jobs.building import ROWS, Desk, desk, lines
from tests.service.scoring.building import BAD, VERSION, Answering, dataset, documents, ndjson


async def users(desk: Desk, job_id: str, **headers: str) -> list[str | None]:
    """Of the result's rows, which must be whole and in order."""
    response = await desk.get(f"/batches/{job_id}/results", **headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/vnd.apache.parquet"
    rows = pq.read_table(io.BytesIO(response.content)).to_pylist()
    assert [row["row"] for row in rows] == list(range(len(rows)))
    return [row["user_id"] for row in rows]


def test_a_file_is_scored_and_fetched_in_both_forms(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            rows = [*ROWS[:7], BAD, *ROWS[7:]]
            response = await made.send(lines(rows), "/batches?seed=7&samples=4")
            assert response.status_code == 202
            first = response.json()
            assert response.headers["location"] == f"/batches/{first['id']}"
            assert re.fullmatch(r"[A-Za-z0-9_-]{22}", first["id"])
            assert (first["state"], first["rows"], first["done"], first["results"]) == ("queued", None, 0, None)
            last = await made.until(first["id"], "done", "failed")
            assert (last["state"], last["rows"], last["done"], last["failed"]) == ("done", 26, 26, 1)
            assert last["bundle_version"] == VERSION
            assert last["results"] == f"/batches/{first['id']}/results"
            assert last["expires_at"] > last["ended_at"] >= last["started_at"] >= last["created_at"]
            assert {request.options.seed for request in made.answering.asked} == {7}
            assert await users(made, first["id"]) == [row["user_id"] for row in rows]
            response = await made.get(last["results"], accept="application/x-ndjson")
            assert response.headers["content-type"] == "application/x-ndjson"
            told = [json.loads(line) for line in response.text.splitlines()]
            assert [row["row"] for row in told] == list(range(26))
            assert [row["row"] for row in told if row["problem"]] == [7]
            assert told[7]["problem"]["status"] == 422
            await made.at_rest()
            assert made.files() == {first["id"], f"{first['id']}/result.parquet"}, "histories are gone"
            metrics = made.metrics()
            assert 'hetlm_batch_rows_total{result="ok"} 25.0' in metrics
            assert 'hetlm_batch_rows_total{result="problem"} 1.0' in metrics
            assert "hetlm_batch_chunks_total 3.0" in metrics
            assert "u17" not in made.log.getvalue()
            assert "/bags" not in made.log.getvalue()

    asyncio.run(scenario())


@pytest.mark.parametrize("declared", TYPES)
def test_the_contents_say_what_a_file_is(tmp_path: Path, declared: str) -> None:
    async def scenario() -> None:
        async with desk(tmp_path / "jobs") as made:
            bodies = [lines(), gzip.compress(lines()), dataset(tmp_path / "in", ROWS).read_bytes()]
            for body in bodies:
                job_id = await made.made(body, **{"content-type": declared})
                await made.until(job_id, "done")
                assert await users(made, job_id) == [row["user_id"] for row in ROWS]

    asyncio.run(scenario())


def test_what_is_wrong_with_a_file_is_told_in_its_document(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path, limits=Limits(rows=20)) as made:
            for body, words in ((lines(), "20 rows"), (b"PAR1", "damaged"), (b"\n", "no row")):
                document = await made.until(await made.made(body), "failed", "done")
                assert (document["state"], document["done"]) == ("failed", 0)
                assert words in document["problem"]["detail"]
                response = await made.get(f"/batches/{document['id']}/results")
                assert (response.status_code, response.json()["type"]) == (409, "urn:hetlm:problem:not-done")
                await made.at_rest()
                assert made.files() == set()
            assert 'hetlm_batch_jobs{state="failed"}' in made.metrics()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("headers", "path", "body", "status", "words"),
    [
        ({"content-type": "text/csv"}, "/batches", b"a", 415, "Content-Type"),
        ({"content-type": "application/json"}, "/batches", b"{}", 415, "HETLM_BATCH_INPUT_DIR"),
        ({"content-encoding": "gzip"}, "/batches", b"a", 415, "Content-Encoding"),
        ({}, "/batches", b"", 422, "empty"),
        ({}, "/batches", b"x" * 2_000, 413, "1024 bytes"),
        ({}, "/batches?samples=0", b"a", 422, "samples in the query must be at least 1"),
        ({}, "/batches?zq=1", b"a", 422, "zq in the query is not known"),
        ({}, "/batches?as_of=2026", b"a", 422, "as_of in the query"),
        ({"idempotency-key": "a b"}, "/batches", b"a", 422, "Idempotency-Key"),
    ],
)
def test_a_wrong_request_is_refused_and_leaves_nothing(
    tmp_path: Path, headers: dict[str, str], path: str, body: bytes, status: int, words: str
) -> None:
    async def scenario() -> None:
        async with desk(tmp_path, settings=Settings(batch_upload_limit_bytes=1_024)) as made:
            response = await made.send(body, path, **headers)
            assert response.status_code == status
            assert response.headers["content-type"] == "application/problem+json"
            assert words in response.json()["detail"]
            assert (await made.get("/batches")).json() == {"batches": [], "next": None}
            assert not any((tmp_path / "incoming").iterdir())

    asyncio.run(scenario())


def test_a_body_without_a_length_has_the_same_limit_and_one_that_stops_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = Settings(batch_upload_limit_bytes=100_000, body_timeout_seconds=0.2)
        async with desk(tmp_path, settings=settings) as made:

            async def endless() -> AsyncIterator[bytes]:
                while True:
                    yield b"x" * 10_000

            async def stuck() -> AsyncIterator[bytes]:
                yield b"x"
                await asyncio.sleep(60)

            for body, status in ((endless(), 413), (stuck(), 408)):
                response = await made.client.post(
                    "/batches", content=body, headers={"content-type": "application/x-ndjson"}
                )
                assert response.status_code == status
            assert not any((tmp_path / "incoming").iterdir())

    asyncio.run(scenario())


def test_a_batch_is_its_owners_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        answering = Answering()
        async with desk(tmp_path, answering) as made:
            job_id = await made.made(lines(), **{"x-caller": "ada"})
            await made.until(job_id, "done", **{"x-caller": "ada"})
            own = (await made.get("/batches", **{"x-caller": "ada"})).json()["batches"]
            assert [batch["id"] for batch in own] == [job_id]
            nobody = await made.get("/batches/AAAAAAAAAAAAAAAAAAAAAA", **{"x-caller": "bob"})
            for other in ({"x-caller": "bob"}, {}):
                assert (await made.get("/batches", **other)).json() == {"batches": [], "next": None}
                for response in (
                    await made.get(f"/batches/{job_id}", **other),
                    await made.get(f"/batches/{job_id}/results", **other),
                    await made.client.delete(f"/batches/{job_id}", headers=other),
                ):
                    assert response.status_code == 404
                    assert response.json()["detail"] == nobody.json()["detail"], "as if it were not there"
            assert len(await users(made, job_id, **{"x-caller": "ada"})) == 25

    asyncio.run(scenario())


def test_so_many_unfinished_and_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        answering = Answering()
        answering.gate = asyncio.Event()
        async with desk(tmp_path, answering, most=2) as made:
            first = await made.made(lines())
            await made.made(lines())
            refused = await made.send(lines())
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
            await made.made(lines(), **{"x-caller": "bob"})
            await made.client.delete(f"/batches/{first}")
            await made.made(lines())
            answering.gate.set()

    asyncio.run(scenario())


def test_while_it_runs_the_document_tells_how_far_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        answering = Answering()
        async with desk(tmp_path, answering, width=1) as made:
            answering.seconds = 0.005
            job_id = await made.made(lines(documents(60)))
            seen = []
            while (document := await made.until(job_id, "queued", "running", "done"))["state"] != "done":
                if document["rows_per_second"] is not None:
                    seen.append(document)
                await asyncio.sleep(0.005)
            assert seen
            for one in seen:
                assert one["rows"] == 60
                assert one["rows_per_second"] > 0
                assert one["seconds_left"] == pytest.approx(
                    (60 - one["done"]) / one["rows_per_second"], rel=0.05, abs=0.2
                )
            assert [one["done"] for one in seen] == sorted(one["done"] for one in seen)
            assert {one["done"] for one in seen} - {0, 10, 20, 30, 40, 50, 60}, "between two chunks, too"

    asyncio.run(scenario())


def test_a_file_of_the_allowed_folder_is_scored_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    dataset(folder / "histories.parquet", ROWS)
    ndjson(tmp_path / "outside.ndjson", ROWS)
    (folder / "link.ndjson").symlink_to(tmp_path / "outside.ndjson")
    (folder / "deeper").mkdir()
    ndjson(folder / "deeper" / "three.ndjson", ROWS[:3])
    (folder / "way").symlink_to(folder / "deeper")
    ndjson(folder / "large.ndjson", documents(200))

    async def scenario() -> None:
        settings = Settings(batch_input_dir=folder, batch_upload_limit_bytes=20_000)
        async with desk(tmp_path / "jobs", settings=settings) as made:
            body = {"file": "histories.parquet", "options": {"seed": 5}}
            response = await made.client.post("/batches", json=body, headers={"idempotency-key": "k"})
            assert response.status_code == 202, response.text
            job_id = response.json()["id"]
            await made.until(job_id, "done")
            assert await users(made, job_id) == [row["user_id"] for row in ROWS]
            assert {request.options.seed for request in made.answering.asked} == {5}
            other = {**body, "file": "large.ndjson"}
            response = await made.client.post("/batches", json={"file": "deeper/three.ndjson"})
            assert response.status_code == 202, response.text
            await made.until(response.json()["id"], "done")
            assert len(await users(made, response.json()["id"])) == 3
            for wrong, status in (
                ({"file": "way/three.ndjson"}, 404),
                ({"file": "deeper/absent"}, 404),
                ({"file": "deeper/../histories.parquet"}, 422),
                ({"file": "histories..parquet"}, 422),
                ({"file": "histories.parquet."}, 422),
                ({"file": "x" * 129}, 422),
                ({"file": "link.ndjson"}, 404),
                ({"file": "deeper"}, 404),
                ({"file": "absent"}, 404),
                ({"file": "../outside.ndjson"}, 422),
                ({"file": str(tmp_path / "outside.ndjson")}, 422),
                ({"file": ".hidden"}, 422),
                ({"file": "x\n"}, 422),
                ({"file": "histories.parquet", "more": 1}, 422),
                ({"file": "large.ndjson"}, 413),
                (other, 413),
            ):
                response = await made.client.post("/batches", json=wrong)
                assert response.status_code == status, wrong
            assert len((await made.get("/batches")).json()["batches"]) == 2
            assert not any((tmp_path / "jobs" / "incoming").iterdir())

    asyncio.run(scenario())
