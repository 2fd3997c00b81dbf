"""Nothing outlives its time: what is deleted, expired or stopped is gone at once, whatever was under way."""

from __future__ import annotations

import asyncio
import gzip
import io
import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from service.jobs import worker
from service.jobs.clock import steady
from service.jobs.routes import _Streamed
from service.jobs.storage import Storage
from service.scoring.inputs import Limits
from tests.service.jobs.building import HOUR, ROWS, Desk, Now, desk, lines
from tests.service.jobs.test_batches import users
from tests.service.scoring.building import Answering, documents

BOUNDLESS = Limits(rows=10**15, bytes=10**18)


def nothing() -> bytes:
    """Some 16 GB of blank lines, which would take longer to count than a test may."""
    return gzip.compress(b"\n" * 2**26, mtime=0) * 250


@pytest.mark.parametrize("when", ["queued", "running", "done"])
def test_deleting_stops_and_removes_at_once(tmp_path: Path, when: str) -> None:
    async def scenario() -> None:
        answering = Answering()
        answering.gate = asyncio.Event()
        async with desk(tmp_path, answering) as made:
            before = await made.made(lines()) if when == "queued" else None
            job_id = await made.made(lines())
            if when == "done":
                answering.gate.set()
            await made.until(job_id, when)
            if when == "running":
                await answering.reached.wait()
            response = await made.client.delete(f"/batches/{job_id}")
            assert response.status_code == 200
            assert response.json()["state"] == ("done" if when == "done" else "cancelled")
            assert response.json()["results"] is None
            assert not any(path.startswith(job_id) for path in made.files())
            for response in (await made.get(f"/batches/{job_id}"), await made.client.delete(f"/batches/{job_id}")):
                assert response.status_code == 404
            answering.gate.set()
            if before is not None:
                await made.until(before, "done")
            after = await made.made(lines(ROWS[:3]))
            await made.until(after, "done")
            assert len(await users(made, after)) == 3, "the next one's turn comes"

    asyncio.run(scenario())


def test_what_has_ended_expires(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            job_id = await made.made(lines())
            await made.until(job_id, "done")
            made.now.seconds += 24 * HOUR - 1
            assert len(await users(made, job_id)) == 25
            made.now.seconds += 1
            for path in (f"/batches/{job_id}", f"/batches/{job_id}/results"):
                assert (await made.get(path)).status_code == 404, "at once"
            assert (await made.get("/batches")).json() == {"batches": [], "next": None}
            other = await made.made(lines(ROWS[:1]))  # the worker looks around
            await made.until(other, "done")
            assert not any(path.startswith(job_id) for path in made.files())

    asyncio.run(scenario())


def test_what_has_expired_waits_for_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch has ended, another takes as long as it likes."""
    monkeypatch.setattr(worker, "SWEEP_SECONDS", 0.02)

    async def scenario() -> None:
        answering = Answering()
        async with desk(tmp_path, answering) as made:
            ended = await made.made(lines())
            await made.until(ended, "done")
            answering.gate = asyncio.Event()
            made.now.seconds += HOUR
            long = await made.made(lines())
            await made.until(long, "running")
            made.now.seconds += 23 * HOUR
            while any(path.startswith(ended) for path in made.files()):
                await made.until(long, "running")
            while made.registry.get_sample_value("hetlm_batch_expired_total") != 1:
                await made.until(long, "running")
            assert (await made.until(long, "running"))["done"] == 0
            answering.gate.set()

    asyncio.run(scenario())


def test_a_result_that_is_being_read_outlives_its_batch(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            job_id = await made.made(lines())
            await made.until(job_id, "done")
            async with made.client.stream("GET", f"/batches/{job_id}/results") as response:
                await made.client.delete(f"/batches/{job_id}")
                contents = await response.aread()
            assert pq.read_table(io.BytesIO(contents)).num_rows == 25

    asyncio.run(scenario())


async def counting(made: Desk) -> str:
    """A batch whose rows are being counted."""
    job_id = await made.made(nothing())
    document = await made.until(job_id, "running")
    await asyncio.sleep(0.1)
    assert document["rows"] is None
    return job_id


def test_counting_gigabytes_of_nothing_stops_when_it_is_deleted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path, limits=BOUNDLESS) as made:
            job_id = await counting(made)
            assert (await made.client.delete(f"/batches/{job_id}")).status_code == 200
            assert made.files() == set()
            await made.until(await made.made(lines()), "done")

    asyncio.run(scenario())


def test_counting_gigabytes_of_nothing_does_not_keep_a_service_from_ending(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path, limits=BOUNDLESS) as made:
            job_id = await counting(made)
        async with desk(tmp_path, limits=Limits(rows=1_000)) as made:
            document = await made.until(job_id, "failed", "done")
            assert "1000 lines" in document["problem"]["detail"]

    asyncio.run(scenario())


def test_two_who_delete_at_once_leave_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            for _ in range(5):
                job_id = await made.made(lines(documents(60)))
                several = await asyncio.gather(*(made.client.delete(f"/batches/{job_id}") for _ in range(4)))
                assert sorted(response.status_code for response in several) == [200, 404, 404, 404]
                assert made.files() == set()

    asyncio.run(scenario())


def test_what_could_not_be_removed_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            job_id = await made.made(lines())
            await made.until(job_id, "done")

            def busy(_: Path) -> None:
                raise PermissionError

            with monkeypatch.context() as patch:
                patch.setattr(shutil, "rmtree", busy)
                with pytest.raises(PermissionError):
                    await made.client.delete(f"/batches/{job_id}")
                assert (await made.get(f"/batches/{job_id}")).status_code == 404
                assert job_id in made.files()
            await made.until(await made.made(lines()), "done")  # the worker looks around
            assert job_id not in made.files()

    asyncio.run(scenario())


def test_files_that_cannot_be_removed_keep_nobody_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        (tmp_path / "jobs" / "nobody").mkdir(parents=True)
        (tmp_path / "jobs" / "stray").write_text("zq")

        def busy(_: Path) -> None:
            raise PermissionError

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", busy)
            async with desk(tmp_path) as made:
                assert "batch_not_removed" in made.log.getvalue()
                assert made.files() == {"nobody"}
                while made.registry.get_sample_value("hetlm_batch_not_removed") != 1:
                    await made.get("/batches")
        async with desk(tmp_path) as made:
            assert made.files() == set()

    asyncio.run(scenario())


def test_a_crash_between_a_failure_and_its_cleaning_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            job_id = await made.made(b"PAR1")
            await made.until(job_id, "failed")
            await made.at_rest()
        storage = Storage(tmp_path)
        storage.parts(job_id).mkdir(parents=True)
        storage.input(job_id).write_text("zq")
        storage.result(job_id).write_text("zq")
        storage.close()
        async with desk(tmp_path) as made:
            assert made.files() == set()
            assert (await made.get(f"/batches/{job_id}")).json()["state"] == "failed"

    asyncio.run(scenario())


def test_a_result_that_nobody_listens_to_is_closed() -> None:
    async def scenario() -> None:
        file = io.BytesIO(b"rows")

        async def pieces() -> object:
            yield b"rows"

        async def gone(_: object) -> None:
            raise OSError

        async def quiet() -> dict[str, str]:
            await asyncio.Event().wait()
            return {}

        scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the framework makes of it
            await _Streamed(file, pieces(), "text/plain", {})(scope, quiet, gone)  # type: ignore[arg-type]
        assert file.closed

    asyncio.run(scenario())


def test_the_clock_of_jobs_goes_on_when_that_of_the_machine_jumps() -> None:
    day, passed = [1_790_000_000.0], [50.0]
    clock = steady(lambda: day[0], lambda: passed[0])
    assert clock() == 1_790_000_000.0
    day[0] += 365 * 24 * HOUR
    passed[0] += 60
    assert clock() == 1_790_000_060.0
    day[0] = 0.0
    assert clock() == 1_790_000_060.0
    assert abs(steady()() - steady()()) < 10


def test_a_clock_that_is_set_forward_expires_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the jobs' own clock."""
    jumped = 0.0
    real = time.time

    async def scenario() -> None:
        nonlocal jumped
        async with desk(tmp_path, own_clock=True) as made:
            job_id = await made.made(lines())
            await made.until(job_id, "done")
            jumped = 365 * 24 * HOUR
            await made.until(await made.made(lines()), "done")  # the worker looks around
            assert len(await users(made, job_id)) == 25

    monkeypatch.setattr(time, "time", lambda: real() + jumped)
    asyncio.run(scenario())


def test_a_start_goes_by_the_clock_as_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        now = Now()
        async with desk(tmp_path, now=now) as made:
            job_id = await made.made(lines())
            await made.until(job_id, "done")
        now.seconds += 25 * HOUR
        async with desk(tmp_path, now=now) as made:
            assert (await made.get(f"/batches/{job_id}")).status_code == 404

    asyncio.run(scenario())
