"""SIGKILL at random moments: the result holds every row exactly once, as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.service.jobs.life import CHUNK_ROWS, live
from tests.service.scoring.building import BAD, dataset, documents, ndjson

KILLS = 50 if os.environ.get("HETLM_SOAK") else 5
CHUNKS_PER_KILL = 4
SECONDS_PER_ROW = 0.004
PATIENCE = 120.0


def finished(root: Path) -> int:
    """Chunks that are safe on the disk."""
    return len(list(root.glob("jobs/*/parts/*.parquet")))


def results(root: Path) -> list[Path]:
    return list(root.glob("jobs/*/result.parquet"))


def killed(context: Any, root: Path, folder: Path, draw: random.Random, enough: int) -> int:
    """Let it live until `enough` chunks are finished and a moment longer. How many were, at the end."""
    process = context.Process(target=live, args=(str(root), str(folder), SECONDS_PER_ROW))
    process.start()
    until = time.monotonic() + PATIENCE
    while finished(root) < enough and not results(root):
        assert time.monotonic() < until, "it does not get on"
        assert process.is_alive(), "it died by itself"
        time.sleep(0.002)
    time.sleep(draw.random() * SECONDS_PER_ROW * CHUNK_ROWS)
    process.kill()
    process.join()
    assert process.exitcode == -9, "it was under way"
    return finished(root)


@pytest.mark.soak
def test_no_row_is_lost_or_doubled_over_random_kills(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.service.jobs.life"])
    draw = random.Random(KILLS)
    rows = documents((KILLS + 2) * CHUNKS_PER_KILL * CHUNK_ROWS + 3, seed=1)
    for number in draw.sample(range(len(rows)), 9):
        rows[number] = BAD
    folder, root = tmp_path / "in", tmp_path / "batches"
    folder.mkdir()
    ndjson(folder / "input", rows)
    enough = 0
    for _ in range(KILLS):
        enough = killed(context, root, folder, draw, enough + draw.randint(0, CHUNKS_PER_KILL))
        assert not results(root), "each kill meets it at work"
    last = context.Process(target=live, args=(str(root), str(folder), 0.0))
    last.start()
    last.join(PATIENCE)
    assert last.exitcode == 0
    (result,) = results(root)
    table = pq.read_table(result).to_pylist()
    assert [row["row"] for row in table] == list(range(len(rows)))
    assert [row["user_id"] for row in table] == [row["user_id"] for row in rows]
    assert [row["row"] for row in table if row["problem"]] == [i for i, row in enumerate(rows) if row is BAD]
    assert {path.name for path in result.parent.iterdir()} == {"result.parquet"}
    assert not any((root / "incoming").iterdir())

    quiet = tmp_path / "quiet"
    undisturbed = context.Process(target=live, args=(str(quiet), str(folder), 0.0))
    undisturbed.start()
    undisturbed.join(PATIENCE)
    (other,) = results(quiet)
    assert _without_ids(pq.read_table(other).to_pylist()) == _without_ids(table)


def _without_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A problem names its batch."""
    return [{**row, "problem": row["problem"] is not None} for row in rows]


def test_a_parquet_input_goes_on_in_the_middle_of_a_row_group(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.service.jobs.life"])
    rows = documents(75)
    folder, root = tmp_path / "in", tmp_path / "batches"
    folder.mkdir()
    dataset(folder / "input", rows, row_group=32)
    killed(context, root, folder, random.Random(0), 2)
    last = context.Process(target=live, args=(str(root), str(folder), 0.0))
    last.start()
    last.join(PATIENCE)
    (result,) = results(root)
    assert pq.read_table(result).column("user_id").to_pylist() == [row["user_id"] for row in rows]
