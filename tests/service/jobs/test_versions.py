"""Bundles that are exchanged while a batch is under way: one result is of one version, and its document says which."""

from __future__ import annotations

import asyncio
import io
import random
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from service.jobs.versions import MOST_RESTARTS
from service.schemas import PredictRequest, PredictResponse
from service.scoring.served import Served, VersionGone
from tests.service.jobs.building import ROWS, Desk, desk, lines
from tests.service.scoring.building import OUTCOMES, answered

USERS = [row["user_id"] for row in ROWS]


class Versions:
    """Serves one of several versions; `plan[i]` is done when the i-th row has been asked: `version` is served from then
    on, and `gone` are stopped."""

    def __init__(self, plan: dict[int, tuple[str, str]]) -> None:
        self.plan = plan
        self.now = "a"
        self.gone = ""
        self.asked: list[str] = []

    def served(self) -> Served:
        """As it ought to be: answers of this version, or none."""
        version = self.now

        async def answer(request: PredictRequest, request_id: str) -> PredictResponse:
            self.step(version)
            await asyncio.sleep(0)
            if version in self.gone:
                raise VersionGone
            return answered(request, request_id, version)

        return Served(version, OUTCOMES, answer)

    def careless(self) -> Served:
        """Whoever is served just now answers."""

        async def answer(request: PredictRequest, request_id: str) -> PredictResponse:
            self.step(self.now)
            await asyncio.sleep(0)
            return answered(request, request_id, self.now)

        return Served(self.now, OUTCOMES, answer)

    def step(self, version: str) -> None:
        self.asked.append(version)
        if len(self.asked) in self.plan:
            self.now, self.gone = self.plan[len(self.asked)]


async def ended(made: Desk) -> str:
    """The version of a batch that is done, whose result must be whole and of that version alone."""
    job_id = await made.made(lines())
    document = await made.until(job_id, "done", "failed")
    assert (document["state"], document["done"], document["rows"]) == ("done", 25, 25)
    response = await made.get(f"/batches/{job_id}/results")
    rows = pq.read_table(io.BytesIO(response.content)).to_pylist()
    assert [row["row"] for row in rows] == list(range(25))
    assert [row["user_id"] for row in rows] == USERS
    assert {row["bundle_version"] for row in rows} == {document["bundle_version"]}
    return str(document["bundle_version"])


def test_after_a_chunk_the_batch_begins_again_with_what_is_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        versions = Versions({4: ("b", "")})
        async with desk(tmp_path, served=versions.served, width=1) as made:
            assert await ended(made) == "b"
            assert versions.asked == ["a"] * 10 + ["b"] * 25, "the first chunk was of the old one"
            assert "batch_begins_again" in made.log.getvalue()

    asyncio.run(scenario())


def test_forth_and_back_within_a_chunk_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        versions = Versions({4: ("b", ""), 8: ("a", "b"), 14: ("b", ""), 16: ("a", "b")})
        async with desk(tmp_path, served=versions.served, width=1) as made:
            assert await ended(made) == "a"
            assert versions.asked == ["a"] * 25, "every row by the version that it was begun with"
            assert "batch_begins_again" not in made.log.getvalue()

    asyncio.run(scenario())


def test_rows_of_another_version_are_noticed_even_if_the_first_is_back_at_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        versions = Versions({14: ("b", ""), 16: ("a", "")})
        async with desk(tmp_path, served=versions.careless, width=1) as made:
            assert await ended(made) == "a"
            assert "batch_begins_again" in made.log.getvalue()

    asyncio.run(scenario())


def test_a_version_that_is_stopped_in_the_middle_of_a_chunk_begins_again_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        versions = Versions({14: ("b", "a")})
        async with desk(tmp_path, served=versions.served, width=1) as made:
            assert await ended(made) == "b"
            assert versions.asked == ["a"] * 14 + ["b"] * 25

    asyncio.run(scenario())


def test_a_version_that_is_stopped_and_started_anew_goes_on_where_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        versions = Versions({14: ("a", "a"), 15: ("a", "")})
        async with desk(tmp_path, served=versions.served, width=1) as made:
            assert await ended(made) == "a"
            assert len(versions.asked) == 25 + 14 - 10, "the finished chunk stays"

    asyncio.run(scenario())


def flips(count: int) -> dict[int, tuple[str, str]]:
    """The version that scores has ended its chunk of ten rows when the next one is served: a, b, c and so on."""
    return {10 * i + 4: ("abcdefgh"[i + 1], "") for i in range(count)}


def test_a_batch_that_begins_again_some_times_ends_with_one_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        served = Versions(flips(MOST_RESTARTS))
        async with desk(tmp_path, served=served.served, width=1) as made:
            assert await ended(made) == "abcdefgh"[MOST_RESTARTS]
            (listed,) = (await made.get("/batches")).json()["batches"]
            assert listed["restarts"] == MOST_RESTARTS

    asyncio.run(scenario())


async def too_often(made: Desk, job_id: str) -> None:
    document = await made.until(job_id, "done", "failed")
    assert document["problem"]["type"] == "urn:hetlm:problem:versions-changed"
    assert f"{MOST_RESTARTS + 1} times" in document["problem"]["detail"]
    assert (document["restarts"], document["bundle_version"]) == (MOST_RESTARTS, "abcdefgh"[MOST_RESTARTS])


def test_where_versions_change_too_often_a_batch_fails_and_says_so(tmp_path: Path) -> None:
    """It would be begun again for ever."""

    async def scenario() -> None:
        served = Versions(flips(MOST_RESTARTS + 1))
        async with desk(tmp_path, served=served.served, width=1) as made:
            await too_often(made, await made.made(lines()))
            assert len(served.asked) == 10 * (MOST_RESTARTS + 1)
            assert await made.made(lines()), "the next one is begun with what is served"

    asyncio.run(scenario())


def test_services_that_begin_with_another_version_every_time_are_counted_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        job_id = ""
        for version in "abcdefgh"[: MOST_RESTARTS + 1]:
            begun = asyncio.Event()
            async with desk(tmp_path, served=partial(never, version, begun), width=1) as made:
                job_id = job_id or await made.made(lines())
                async with asyncio.timeout(60):
                    await begun.wait()
        last = Versions({})
        last.now = "abcdefgh"[MOST_RESTARTS + 1]
        async with desk(tmp_path, served=last.served, width=1) as made:
            await too_often(made, job_id)
            assert not last.asked

    asyncio.run(scenario())


def never(version: str, begun: asyncio.Event) -> Served:
    """Answers nothing."""

    async def answer(request: PredictRequest, request_id: str) -> PredictResponse:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    return Served(version, OUTCOMES, answer)


@pytest.mark.parametrize("seed", range(8))
def test_at_any_moment(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchanges at random rows, of two versions that come and go."""
    monkeypatch.setattr("service.jobs.versions.MOST_RESTARTS", 100)
    draw = random.Random(seed)
    plan = {row: (draw.choice("ab"), "") for row in draw.sample(range(1, 120), 12)}
    plan = {row: (now, draw.choice(["", "ab".replace(now, "")])) for row, (now, _) in plan.items()}

    async def scenario() -> None:
        versions = Versions(plan)
        async with desk(tmp_path, served=draw.choice([versions.served, versions.careless]), width=3) as made:
            assert await ended(made) in "ab"

    asyncio.run(scenario())
