"""What goes wrong around a job: a full disk, a book that cannot be written, another bundle, a second process."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from browsing.bundle import Bundle
from service.app import ConfigurationError
from service.jobs.ledger import Job, KeyTakenError, Ledger
from service.jobs.storage import Storage, StorageError
from service.problems import Problem
from service.schemas import PredictOptions
from service.scoring.results import Tally
from service.settings import Settings
from tests.service.building import running
from tests.service.jobs.building import desk, lines
from tests.service.jobs.test_batches import users
from tests.service.scoring.building import Answering, documents, served
from tests.service.scoring.test_parts import largest_file

ROOT = Path(__file__).parents[3]


@contextmanager
def full(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """`os.<name>` finds no room any more."""

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, no_room)
        yield


def test_a_full_disk_fails_the_job_and_its_document_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        answering = Answering()
        answering.gate = asyncio.Event()
        async with desk(tmp_path, answering) as made:
            job_id = await made.made(lines(documents(400)))
            await made.until(job_id, "running")
            await answering.reached.wait()
            with largest_file(4_000):  # less than a chunk, more than nothing; the book's file is larger already
                answering.gate.set()
                document = await made.until(job_id, "failed", "done")
            assert document["state"] == "failed"
            assert document["problem"]["type"] == "urn:hetlm:problem:disk-full"
            assert document["expires_at"] is not None
            await made.at_rest()
            assert made.files() == set(), "there is room again"
            after = await made.made(lines())
            await made.until(after, "done")
            assert len(await users(made, after)) == 25
            assert (await made.get(f"/batches/{job_id}")).json()["state"] == "failed"

    asyncio.run(scenario())


def test_a_full_disk_under_an_upload_is_a_507(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            with full(monkeypatch, "fsync"):
                response = await made.send(lines())
            assert (response.status_code, response.json()["type"]) == (507, "urn:hetlm:problem:disk-full")
            with largest_file(1_000):
                assert (await made.send(lines(documents(50)))).status_code == 507
            assert (await made.get("/batches")).json() == {"batches": [], "next": None}
            assert not any((tmp_path / "incoming").iterdir())
            await made.until(await made.made(lines()), "done")

    asyncio.run(scenario())


def test_an_end_that_cannot_be_written_counts_all_the_same_and_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        answering = Answering()
        answering.gate = asyncio.Event()
        async with desk(tmp_path, answering) as made:
            job_id = await made.made(lines())
            await answering.reached.wait()
            save = Ledger.save

            async def no_room(_: Ledger, job: Job) -> bool:
                raise OSError(errno.ENOSPC, "the jobs' book cannot be written")

            monkeypatch.setattr(Ledger, "save", no_room)
            answering.gate.set()
            document = await made.until(job_id, "failed", "done")
            assert (document["state"], document["problem"]["type"]) == ("failed", "urn:hetlm:problem:disk-full")
            assert (await made.get(f"/batches/{job_id}/results")).status_code == 409
            monkeypatch.setattr(Ledger, "save", save)
            await made.until(await made.made(lines()), "done")
        async with desk(tmp_path) as made:
            assert (await made.get(f"/batches/{job_id}")).json()["state"] == "failed", "after a restart, too"

    asyncio.run(scenario())


def test_after_a_restart_with_another_bundle_nothing_of_the_old_one_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = Answering(0.001, version="a")
        async with desk(tmp_path, old, width=1, served=lambda: served(old, "a")) as made:
            job_id = await made.made(lines())
            while (await made.get(f"/batches/{job_id}")).json()["done"] < 12:
                assert (await made.get(f"/batches/{job_id}")).json()["state"] != "done"
        new = Answering(version="b")
        async with desk(tmp_path, new, served=lambda: served(new, "b")) as made:
            document = await made.until(job_id, "done")
            assert document["bundle_version"] == "b"
            assert len(new.asked) == 25

    asyncio.run(scenario())


def test_the_oldest_goes_first_and_what_was_begun_before_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            made.answering.gate = asyncio.Event()
            first, second = await made.made(lines()), await made.made(lines())
            await made.until(first, "running")
        async with desk(tmp_path, Answering(0.002)) as made:
            documents = [(await made.get(f"/batches/{job_id}")).json() for job_id in (first, second)]
            assert [document["state"] for document in documents] == ["running", "queued"]
            done = await made.until(second, "done")
            assert done["started_at"] >= (await made.get(f"/batches/{first}")).json()["ended_at"]

    asyncio.run(scenario())


def test_a_directory_belongs_to_one_service(tmp_path: Path, bundle: Bundle) -> None:
    storage = Storage(tmp_path)
    with pytest.raises(StorageError, match="another service"):
        Storage(tmp_path)

    async def scenario() -> None:
        with pytest.raises(ConfigurationError, match="HETLM_BATCH_DIR"):
            async with running(bundle, settings=Settings(batch_dir=tmp_path)):
                raise AssertionError("two services over one directory")

    asyncio.run(scenario())
    storage.close()
    Storage(tmp_path).close()


def test_a_book_that_is_none_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite3").write_bytes(b"no book" * 1_000)

    async def scenario() -> None:
        with pytest.raises(StorageError, match=r"jobs\.sqlite3.*another directory"):
            async with desk(tmp_path):
                raise AssertionError("it was read")

    asyncio.run(scenario())
    Storage(tmp_path).close()


def test_after_a_crash_what_belongs_to_nobody_is_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            job_id = await made.made(lines())
            await made.until(job_id, "done")
        (tmp_path / "incoming" / "half").write_text("zq")
        (tmp_path / "jobs" / "nobody").mkdir()
        (tmp_path / "jobs" / "nobody" / "input").write_text("zq")
        (tmp_path / "jobs" / job_id / "input").write_text("zq")
        async with desk(tmp_path) as made:
            assert made.files() == {job_id, f"{job_id}/result.parquet"}
            assert not any((tmp_path / "incoming").iterdir())

    asyncio.run(scenario())


def test_a_book_that_was_begun_before_restarts_were_counted_is_read_on(tmp_path: Path) -> None:
    job = Job("a", "ada", "k", "f", PredictOptions(seed=3), 1.5)

    async def scenario() -> None:
        ledger = Ledger(tmp_path / "book")
        await ledger.add(job)
        await ledger.close()
        with sqlite3.connect(tmp_path / "book") as book:
            book.execute("ALTER TABLE jobs DROP COLUMN restarts")
        book.close()
        for _ in range(2):
            again = Ledger(tmp_path / "book")
            assert await again.all() == [job]
            await again.close()
        again = Ledger(tmp_path / "book")
        assert await again.save(replace(job, restarts=2))
        assert await again.find("a") == replace(job, restarts=2)
        await again.close()

    asyncio.run(scenario())


def test_the_book_keeps_a_job_as_it_is(tmp_path: Path) -> None:
    job = Job("a", "ada", "k", "f", PredictOptions(seed=3), 1.5)
    later = Job(
        "b", "ada", None, "f", PredictOptions(), 2.5, "failed", 3.0, 4.0, 5.0, 10, Tally(7, 2, 1), "v",
        Problem(type="t", title="t", status=507, detail="d"),
    )  # fmt: skip

    async def scenario() -> None:
        ledger = Ledger(tmp_path / "book")
        await ledger.add(job)
        await ledger.add(later)
        with pytest.raises(KeyTakenError):
            await ledger.add(Job("c", "ada", "k", "g", PredictOptions(), 3.0))
        assert await ledger.find("a") == job
        assert await ledger.find("b") == later
        assert await ledger.find("c") is None
        assert await ledger.of("ada", 0.0, 10) == [later, job]
        assert await ledger.of("bob", 0.0, 10) == []
        assert await ledger.unfinished("ada") == 1
        assert await ledger.next(()) == job
        assert await ledger.next({"a"}) is None
        assert await ledger.expired(4.9) == []
        assert await ledger.expired(5.0) == [later]
        assert (await ledger.count())["failed"] == 1
        assert await ledger.delete("b")
        assert not await ledger.delete("b")
        assert not await ledger.save(later)
        await ledger.close()
        again = Ledger(tmp_path / "book")
        assert await again.all() == [job]
        await again.close()

    asyncio.run(scenario())


def test_a_book_without_room_says_so(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow."""
    code = f"""
import asyncio, resource
from pathlib import Path
from service.jobs.ledger import Job, Ledger
from service.schemas import PredictOptions

async def main():
    ledger = Ledger(Path({str(tmp_path / "book")!r}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    try:
        for i in range(10_000):
            await ledger.add(Job(f"j{{i}}", "ada", None, "f" * 1_000, PredictOptions(), float(i)))
    except OSError as error:
        print("full", error.errno)
    print(len(await ledger.of("ada", 0.0, 10_000)) == i)

asyncio.run(main())
import os; os._exit(0)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.splitlines()[0].startswith("full")
    assert ran.stdout.splitlines()[1] == "True"
