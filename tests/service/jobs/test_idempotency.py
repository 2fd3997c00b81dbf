"""`Idempotency-Key`: the same request gets the same batch, another one is refused, and neither leaves anything."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.jobs import uploads
from service.jobs.documents import BatchesQuery
from service.jobs.ledger import Job, Ledger
from service.schemas import PredictOptions
from service.scoring.threads import in_thread
from service.settings import Settings
from tests.service.jobs.building import HOUR, NDJSON, ROWS, desk, lines, make_jobs
from tests.service.scoring.building import Answering, ndjson

KEY = {"idempotency-key": "monday"}


def test_a_repeated_upload_gets_the_same_batch(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path, most=1) as made:
            key = {"idempotency-key": "monday"}
            job_id = await made.made(lines(), **key)
            again = await made.send(lines(), **key)
            assert (again.status_code, again.json()["id"]) == (200, job_id)
            assert again.headers["location"] == f"/batches/{job_id}"
            for body, path in ((lines(ROWS[1:]), "/batches"), (lines(), "/batches?seed=1")):
                other = await made.send(body, path, **key)
                assert (other.status_code, other.json()["type"]) == (409, "urn:hetlm:problem:key-reused")
            foreign = await made.made(lines(), **key, **{"x-caller": "bob"})
            assert foreign != job_id
            await made.until(job_id, "done")
            assert (await made.send(lines(), **key)).json()["state"] == "done"
            assert len(made.answering.asked) <= 50
            await made.client.delete(f"/batches/{job_id}")
            assert await made.made(lines(), **key) != job_id

    asyncio.run(scenario())


def test_the_same_upload_twice_at_a_time_is_one_batch(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            key = {"idempotency-key": "monday"}
            several = await asyncio.gather(*(made.send(lines(), **key) for _ in range(6)))
            assert sorted(response.status_code for response in several) == [200] * 5 + [202]
            assert len({response.json()["id"] for response in several}) == 1
            assert len((await made.get("/batches")).json()["batches"]) == 1
            assert len({path.partition("/")[0] for path in made.files()}) == 1

    asyncio.run(scenario())


def test_a_known_key_writes_nothing_and_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        answering = Answering()
        answering.gate = asyncio.Event()
        async with desk(tmp_path, answering, most=1) as made:
            job_id = await made.made(lines(), **KEY)

            def written(_: Path) -> None:
                raise AssertionError("it is known")

            monkeypatch.setattr(uploads, "_new", written)
            for _ in range(3):
                again = await made.send(lines(), **KEY)
                assert (again.status_code, again.json()["id"]) == (200, job_id)
            assert (await made.send(lines(ROWS[1:]), **KEY)).status_code == 409
            assert (await made.send(lines(), **{"idempotency-key": "tuesday"})).status_code == 429
            answering.gate.set()

    asyncio.run(scenario())


def test_repeated_uploads_at_a_time_are_limited_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path, most=2) as made:
            job_id = await made.made(lines(), **KEY)
            reached, go = [asyncio.Event() for _ in range(2)], asyncio.Event()

            async def slowly(place: int) -> AsyncIterator[bytes]:
                reached[place].set()
                await go.wait()
                yield lines()

            headers = {**NDJSON, **KEY}
            first = [
                asyncio.ensure_future(made.client.post("/batches", content=slowly(place), headers=headers))
                for place in range(2)
            ]
            for one in reached:
                await one.wait()
            third = await made.send(lines(), **KEY)
            assert (third.status_code, third.headers["retry-after"]) == (429, "60")
            await made.made(lines(), **{"idempotency-key": "tuesday"})
            go.set()
            assert [(await one).json()["id"] for one in first] == [job_id] * 2
            assert (await made.send(lines(), **KEY)).status_code == 200

    asyncio.run(scenario())


def test_other_options_are_refused_before_the_body_is_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            await made.made(lines(), **KEY)
            read = False

            async def body() -> AsyncIterator[bytes]:
                nonlocal read
                read = True
                yield lines()

            headers = {**NDJSON, **KEY}
            response = await made.client.post("/batches?seed=1", content=body(), headers=headers)
            assert (response.status_code, response.headers["connection"], read) == (409, "close", False)
            response = await made.client.post("/batches?seed=0", content=body(), headers=headers)
            assert (response.status_code, read) == (200, True), "the default, said aloud"

    asyncio.run(scenario())


def test_a_named_file_is_known_by_its_contents(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    ndjson(folder / "visitors", ROWS)
    ndjson(folder / "others", ROWS)

    async def scenario() -> None:
        async with desk(tmp_path / "jobs", settings=Settings(batch_input_dir=folder)) as made:

            async def named(name: str) -> Any:
                return await made.client.post("/batches", json={"file": name}, headers=KEY)

            job_id = (await named("visitors")).json()["id"]
            again = await named("visitors")
            assert (again.status_code, again.json()["id"]) == (200, job_id)
            assert (await named("others")).status_code == 409, "another name is another request"
            ndjson(folder / "visitors", [*ROWS[:-1], {**ROWS[-1], "user_id": "new"}])
            changed = await named("visitors")
            assert (changed.status_code, changed.json()["type"]) == (409, "urn:hetlm:problem:key-reused")
            (folder / "visitors").unlink()
            assert (await named("visitors")).status_code == 404
            ndjson(folder / "visitors", ROWS)
            assert (await named("visitors")).json()["id"] == job_id
            assert (await made.send(lines(), **KEY)).status_code == 409, "an upload is no file of the folder"
            assert len((await made.get("/batches")).json()["batches"]) == 1
            assert not any((tmp_path / "jobs" / "incoming").iterdir())

    asyncio.run(scenario())


def test_a_batch_that_has_expired_has_left_its_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            job_id = await made.made(lines(), **KEY)
            await made.until(job_id, "done")
            made.now.seconds += 24 * HOUR
            again = await made.made(lines(ROWS[:3]), **KEY)
            await made.until(again, "done")
            await made.at_rest()
            assert made.files() == {again, f"{again}/result.parquet"}

    asyncio.run(scenario())


def test_who_leaves_while_the_batch_is_noted_down_leaves_nothing(tmp_path: Path) -> None:
    """Cancelled while the book is being written: nobody was told the id, so there is no batch."""

    async def scenario() -> None:
        jobs = make_jobs(tmp_path, Answering())
        ledger: Ledger = jobs._ledger

        async def forever() -> None:
            await asyncio.Event().wait()

        async def take(to: Path | None) -> str:
            assert to is not None
            await in_thread(to.write_bytes, lines())
            return "digest"

        async with jobs.running(forever):
            go, reached = threading.Event(), asyncio.Event()
            add = ledger.add

            async def late(job: Job) -> None:
                ledger._executor.submit(go.wait)  # the book is busy, and then writes all the same
                reached.set()
                await add(job)

            ledger.add = late  # type: ignore[method-assign]
            task = asyncio.ensure_future(jobs.submit("ada", "monday", PredictOptions(), take))
            await reached.wait()
            await asyncio.sleep(0)
            task.cancel()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await jobs.list("ada", BatchesQuery())).batches == []
            assert not any((tmp_path / "jobs").iterdir())
            assert not any((tmp_path / "incoming").iterdir())
            ledger.add = add  # type: ignore[method-assign]
            assert (await jobs.submit("ada", "monday", PredictOptions(), take))[1], "the key is free"

    asyncio.run(scenario())


def test_a_book_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:

            async def no_room(_: Ledger, __: object) -> None:
                raise OSError(28, "no room")

            monkeypatch.setattr(Ledger, "add", no_room)
            assert (await made.send(lines(), **KEY)).status_code == 507
            assert made.files() == set()

            async def broken(_: Ledger, __: object) -> None:
                raise sqlite3.DatabaseError

            monkeypatch.setattr(Ledger, "add", broken)
            with pytest.raises(sqlite3.DatabaseError):
                await made.send(lines(), **KEY)
            assert made.files() == set()
            assert not any((tmp_path / "incoming").iterdir())

    asyncio.run(scenario())
