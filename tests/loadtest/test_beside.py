from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

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
        return wrong_items(json.dumps({"items": items}).encode(), QUESTIONS, "batch", versions)

    assert wrong(right) == 0
    assert wrong(right[:-1]) == 1
    assert wrong([right[1], right[0], *right[2:]]) == 2
    assert wrong([{"problem": problem(503, "engine-down", "batch.0")}, *right[1:]]) == 1
    assert wrong([{**right[0], "request_id": "batch.1"}, *right[1:]]) == 1, "another item's"
    assert wrong([{**right[0], "request_id": "other.0"}, *right[1:]]) == 1, "another request's"
    assert wrong_items(b"{}", QUESTIONS, "batch", versions) == 4


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


class _Busy(Fake):
    """Every second file, and every second look at a result, is refused with `status`; so is every second list."""

    def __init__(self, status: int, **parts: Any) -> None:
        super().__init__(**parts)
        self.status = status
        self.calls = 0

    def _now(self) -> Response | None:
        self.calls += 1
        return Response(status_code=self.status) if self.calls % 2 else None

    async def _submit(self, request: Request) -> Response:
        return self._now() or await super()._submit(request)

    async def _results(self, request: Request) -> Response:
        return self._now() or await super()._results(request)

    async def _items(self, request: Request) -> Response:
        return self._now() or await super()._items(request)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("has_batches", [True, False])
def test_what_is_refused_for_now_is_tried_again(status: int, has_batches: bool) -> None:
    found = worked(_Busy(status, row_seconds=0.1, has_batches=has_batches), 30.0)
    assert found.files >= 3
    assert found.refused >= 3
    assert (found.wrong, found.ended) == (0, None)


def test_a_service_that_never_takes_a_file_is_told() -> None:
    class Closed(Fake):
        async def _submit(self, request: Request) -> Response:
            return Response(status_code=503)

    with pytest.raises(ServiceError, match="no file is taken"):
        worked(Closed(), 1.0)


def test_work_that_cannot_go_on_says_why() -> None:
    class Revoked(Fake):
        async def _submit(self, request: Request) -> Response:
            if self.deleted:
                return JSONResponse({"detail": "The key opens nothing any more."}, 403)
            return await super()._submit(request)

    found = worked(Revoked(row_seconds=0.1), 30.0)
    assert (found.files, found.rows, found.wrong) == (1, 40, 0)
    assert found.ended == "ServiceError: POST /batches answered 403: The key opens nothing any more."


def test_a_service_that_is_gone_at_the_end_leaves_the_account() -> None:
    fake = Fake(row_seconds=0.1)
    gone = False

    async def passed_on(request: httpx.Request) -> httpx.Response:
        if gone:
            raise httpx.ConnectError("refused")
        return await fake.transport.handle_async_request(request)

    async def work() -> Batch:
        nonlocal gone
        async with connect("http://service", transport=httpx.MockTransport(passed_on)) as client:
            files = FileWork(client, QUESTIONS, frozenset({VERSION}), 40)
            await files.start()
            await asyncio.sleep(5.5)
            gone = True
            await asyncio.sleep(1.0)
            return await files.stop()

    found = passing(work())
    assert (found.files, found.rows, found.wrong, found.ended) == (1, 40, 0, None)
