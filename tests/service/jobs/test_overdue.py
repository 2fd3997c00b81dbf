"""A batch that does not end is not kept for ever: it fails when it has come no further for as long as one is kept that
has ended."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from service.jobs import worker
from service.jobs.storage import Storage
from service.schemas import PredictRequest, PredictResponse
from service.scoring.served import Served
from tests.service.jobs.building import HOUR, Desk, Now, desk, lines
from tests.service.jobs.test_batches import users
from tests.service.jobs.test_deleting import BOUNDLESS, counting
from tests.service.jobs.test_versions import Versions, ended
from tests.service.scoring.building import Answering

DAY = 24 * HOUR
OVERDUE = "urn:hetlm:problem:batch-overdue"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SWEEP_SECONDS", 0.02)


async def gave_up(made: Desk, job_id: str) -> None:
    """It failed because of its time, and nothing of it is left but what its document says."""
    document = await made.until(job_id, "failed", "done")
    assert (document["state"], document["problem"]["type"], document["problem"]["status"]) == ("failed", OVERDUE, 410)
    assert "24 hours" in document["problem"]["detail"]
    assert "batch_overdue" in made.log.getvalue()
    while any(path.startswith(job_id) for path in made.files()):
        await made.until(job_id, "failed")


def test_an_input_that_never_ends_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path, limits=BOUNDLESS) as made:
            job_id = await counting(made)
            made.now.seconds += DAY - 1
            await asyncio.sleep(0.1)
            assert (await made.get(f"/batches/{job_id}")).json()["state"] == "running"
            made.now.seconds += 1
            await gave_up(made, job_id)
            await made.until(await made.made(lines()), "done")
            made.now.seconds += DAY
            assert (await made.get(f"/batches/{job_id}")).status_code == 404, "from its end on, as any other"

    asyncio.run(scenario())


def test_what_never_has_its_turn_is_given_up_too(tmp_path: Path) -> None:
    """And whoever has it goes on."""

    async def scenario() -> None:
        answering = Answering()
        answering.gate = asyncio.Event()
        async with desk(tmp_path, answering) as made:
            waiting = await made.made(lines())
            await made.until(waiting, "running")
            behind = await made.made(lines())
            made.now.seconds += HOUR
            assert (await made.get(f"/batches/{behind}")).json()["state"] == "queued"
            made.now.seconds += DAY - HOUR
            await gave_up(made, waiting)
            await gave_up(made, behind)
            after = await made.made(lines())
            answering.gate.set()
            await made.until(after, "done")
            assert len(await users(made, after)) == 25

    asyncio.run(scenario())


class Slow(Versions):
    """Two hours and a quarter go by with every row, and the worker looks around."""

    def __init__(self, plan: dict[int, tuple[str, str]], now: Now) -> None:
        super().__init__(plan)
        self.clock = now

    def served(self) -> Served:
        inner = super().served()

        async def answer(request: PredictRequest, request_id: str) -> PredictResponse:
            self.clock.seconds += 2.25 * HOUR
            await asyncio.sleep(0.03)
            return await inner.answer(request, request_id)

        return replace(inner, answer=answer)


def test_a_batch_that_moves_on_may_take_as_long_as_it_likes(tmp_path: Path) -> None:
    """22 and a half hours to every chunk, and an exchange of versions in between."""

    async def scenario() -> None:
        now = Now()
        versions = Slow({14: ("b", "")}, now)
        async with desk(tmp_path, now=now, served=versions.served, width=1) as made:
            assert await ended(made) == "b"
            assert versions.asked == ["a"] * 20 + ["b"] * 25
            assert now.seconds > Now().seconds + 4 * DAY

    asyncio.run(scenario())


async def interrupted(folder: Path) -> tuple[Now, Answering, str]:
    """A service that ends while it works on a batch; its clock, its answers, which no longer come, and the batch."""
    now, answering = Now(), Answering()
    answering.gate = asyncio.Event()
    async with desk(folder, answering, now=now) as made:
        job_id = await made.made(lines())
        await made.until(job_id, "running")
    return now, answering, job_id


def test_time_counts_while_the_service_is_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        now, _, job_id = await interrupted(tmp_path)
        now.seconds += DAY
        async with desk(tmp_path, now=now) as made:
            await gave_up(made, job_id)

    asyncio.run(scenario())


def test_a_book_of_before_there_was_a_bound_has_one_from_its_start_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        now, answering, job_id = await interrupted(tmp_path)
        storage = Storage(tmp_path)
        with sqlite3.connect(storage.ledger) as book:
            book.execute("UPDATE jobs SET expires = NULL")
        book.close()
        storage.close()
        now.seconds += 10 * DAY
        async with desk(tmp_path, answering, now=now) as made:
            assert (await made.until(job_id, "running"))["expires_at"] is not None
            now.seconds += DAY
            await gave_up(made, job_id)

    asyncio.run(scenario())
