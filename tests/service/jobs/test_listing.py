"""`GET /batches`, page by page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.service.jobs.building import HOUR, ROWS, Desk, desk, lines

ONE = lines(ROWS[:1])


async def listed(made: Desk, query: str) -> tuple[list[str], str | None]:
    """The ids, and what leads to the next list."""
    response = await made.get(f"/batches?{query}")
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return [batch["id"] for batch in document["batches"]], document["next"]


async def paged(made: Desk, limit: int) -> list[list[str]]:
    pages = []
    query = f"limit={limit}"
    while True:
        found, onward = await listed(made, query)
        pages.append(found)
        if onward is None:
            return pages
        query = f"limit={limit}&before={onward}"


def test_every_batch_is_in_one_of_the_lists(tmp_path: Path) -> None:
    """Those of one moment, too."""

    async def scenario() -> None:
        async with desk(tmp_path) as made:
            ids = []
            for number in range(7):
                made.now.seconds += number % 2 * 0.1
                ids.append(await made.made(ONE))
                await made.made(ONE, **{"x-caller": "bob"})
            whole, onward = await listed(made, "")
            assert onward is None
            assert sorted(whole) == sorted(ids)
            for limit in (1, 2, 3, 7, 100):
                pages = await paged(made, limit)
                assert [job_id for page in pages for job_id in page] == whole
                assert {len(page) for page in pages[:-1]} <= {limit}
                assert pages[-1], "no empty list at the end"
            for job_id in ids:
                await made.until(job_id, "done")

    asyncio.run(scenario())


def test_what_comes_and_goes_between_two_lists_moves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            ids = []
            for _ in range(6):
                made.now.seconds += HOUR
                ids.append(await made.made(ONE))
                await made.until(ids[-1], "done")
            first, onward = await listed(made, "limit=2")
            assert first == [ids[5], ids[4]]
            assert onward is not None
            await made.client.delete(f"/batches/{ids[4]}")  # the last one of the list
            await made.made(ONE)
            made.now.seconds += 19.5 * HOUR  # the oldest has expired
            assert await listed(made, f"limit=3&before={onward}") == ([ids[3], ids[2], ids[1]], None)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit in the query must be at least 1"),
        ("limit=101", "limit in the query must be at most 100"),
        ("limit=zq", "limit in the query"),
        ("before=zq", "before in the query"),
        ("before=1.0~zq", "before in the query"),
        ("zq=1", "zq in the query is not known"),
    ],
)
def test_a_wrong_query_is_refused(tmp_path: Path, query: str, words: str) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as made:
            response = await made.get(f"/batches?{query}")
            assert response.status_code == 422
            assert words in response.json()["detail"]

    asyncio.run(scenario())
