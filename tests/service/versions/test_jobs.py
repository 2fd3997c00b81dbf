"""A file is scored by one version from its first row to its last, whatever is activated meanwhile."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.service.versions.building import BODIES, Factory, Known, Moving, moving, version_of

ROWS = 96
HEADERS = {"content-type": "application/x-ndjson"}


def document() -> bytes:
    rows = [{"user_id": f"u{i}", **BODIES[i % len(BODIES)]} for i in range(ROWS)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


async def sent(made: Moving) -> str:
    response = await made.client.post("/batches", content=document(), headers=HEADERS)
    assert response.status_code == 202, response.text
    return str(response.headers["location"])


async def scored(made: Moving, path: str) -> tuple[str, list[dict[str, Any]]]:
    """The version, and the rows of the result."""
    while (job := (await made.client.get(path)).json())["state"] != "done":
        assert job["state"] in ("queued", "running"), job
        await asyncio.sleep(0.02)
    content = (await made.client.get(path + "/results")).content
    return job["bundle_version"], pq.read_table(io.BytesIO(content)).to_pylist()


@pytest.mark.parametrize("route", [("v2",), ("v2", "v1"), ("v2", "v3", "v1")])
def test_a_file_is_of_one_version(folder: Path, tmp_path: Path, known: Known, route: tuple[str, ...]) -> None:
    """Also where the first version is served again before the chunk under way has ended."""

    async def scenario() -> None:
        factory = Factory(prepare=lambda engine: setattr(engine, "seconds", 0.005))
        jobs = tmp_path / "jobs"
        async with moving(folder, factory=factory, batch_dir=jobs, batch_chunk_rows=60, batch_concurrency=2) as made:
            path = await sent(made)
            await made.until(lambda: len(factory.of("v1").requests) > 60)
            for name in route:
                assert (await made.activate(name))["unfinished"] == 0, "rows of a file hold up nothing"
            version, rows = await scored(made, path)
            assert version == version_of(folder, route[-1])
            assert [row["user_id"] for row in rows] == [f"u{i}" for i in range(ROWS)]
            for i, row in enumerate(rows):
                expected = known[route[-1]][i % len(BODIES)]
                assert row["fallback"] is None
                assert row["next_session"] == expected["next_session"]
                assert row["outcome_cart"]["probability"] == expected["outcomes"]["cart"]["probability"]
                assert row["cluster_id"] == expected["cluster"]["id"]

    asyncio.run(scenario())


def test_no_row_is_the_canarys(folder: Path, tmp_path: Path, known: Known) -> None:
    async def scenario() -> None:
        async with moving(folder, batch_dir=tmp_path / "jobs") as made:
            await made.canary("v2", 0.9)
            version, rows = await scored(made, await sent(made))
            assert version == version_of(folder, "v1")
            for i, row in enumerate(rows):
                assert row["next_session"] == known["v1"][i % len(BODIES)]["next_session"]
            metrics = await made.metrics()
            assert metrics["hetlm_predictions_total", version_of(folder, "v2"), "ok"] == 0

    asyncio.run(scenario())
