from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import Response

from loadtest.beside import FileWork, Rows, wrong_items
from loadtest.client import ServiceError, connect
from loadtest.result import Batch
from loadtest.visitors import walks
from loadtest.workload import Options, question
from tests.loadtest.fake import PAGES, VERSION, Fake, answer, problem
from tests.loadtest.virtual import passing

QUESTIONS = [question(visitor, i, Options()) for i, visitor in enumerate(walks(PAGES, 4, np.random.default_rng(0)))]
LINES = [json.dumps({"row": i, "user_id": f"visitor-{i % 4}", "problem": None}) for i in range(6)]


def counted(lines: list[str]) -> int:
    rows = Rows(QUESTIONS, 6)
    for line in lines:
        rows.see(line)
    return rows.wrong()


def test_every_row_once() -> None:
    assert counted(LINES) == 0
    assert counted(LINES[::-1]) == 0
    assert counted([]) == 6
    assert counted(LINES[1:]) == 1  # lost
    assert counted([*LINES, LINES[2]]) == 1  # doubled
    assert counted([*LINES, "{", json.dumps({"row": 6, "user_id": None})]) == 2  # not of this file
    assert counted([LINES[0].replace("visitor-0", "visitor-1"), *LINES[1:]]) == 1
    assert counted([LINES[0].replace("null", '{"status": 422}'), *LINES[1:]]) == 1


def test_items_in_their_order() -> None:
    right = [answer(json.loads(asked.body), f"batch.{i}") for i, asked in enumerate(QUESTIONS)]
    versions = frozenset({VERSION})

    def wrong(items: list[dict[str, object]]) -> int:
        return wrong_items(json.dumps({"items": items}).encode(), QUESTIONS, versions)

    assert wrong(right) == 0
    assert wrong(right[:-1]) == 1
    assert wrong([right[1], right[0], *right[2:]]) == 2
    assert wrong([{"problem": problem(503, "engine-down", "batch.0")}, *right[1:]]) == 1
    assert wrong_items(b"{}", QUESTIONS, versions) == 4


def worked(fake: Fake, seconds: float, rows: int = 40) -> Batch:
    async def work() -> Batch:
        async with connect("http://service", transport=fake.transport) as client:
            files = FileWork(client, QUESTIONS, frozenset({VERSION}), rows)
            await files.start()
            await asyncio.sleep(seconds)
            return await files.stop()

    return passing(work())


def test_files_follow_one_another_and_the_last_is_given_up() -> None:
    fake = Fake(row_seconds=0.1)
    # A file takes 4 s, its end is seen at once or within the second: at 4.0, 8.0; the third is at row 15.
    found = worked(fake, 9.55)
    assert (found.files, found.wrong, found.route) == (2, 0, "/batches")
    assert found.rows == 40 + 40 + 15
    assert found.rows_per_second == pytest.approx(95 / 9.55, rel=0.01)
    assert not fake.jobs


def test_a_service_that_refuses_files_is_told() -> None:
    async def forbidden(_: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json={"detail": "This needs a key with the scope batch."})

    async def work() -> None:
        async with connect("http://service", transport=httpx.MockTransport(forbidden)) as client:
            await FileWork(client, QUESTIONS, frozenset({VERSION}), 4).start()

    with pytest.raises(ServiceError, match="POST /batches answered 403: This needs a key with the scope batch"):
        passing(work())


def test_a_failed_file_counts_all_its_rows(tmp_path: Path) -> None:
    class Failing(Fake):
        def _document(self, name: str) -> dict[str, object]:
            return {**super()._document(name), "state": "failed"}

    assert worked(Failing(), 0.5).wrong == 40


def test_a_file_that_is_forgotten_counts_all_its_rows() -> None:
    class Forgetful(Fake):
        async def _job(self, request: Request) -> Response:
            self.jobs.clear()
            return Response(status_code=404)

    found = worked(Forgetful(), 1.5)
    assert (found.wrong, found.files) == (40, 0)
