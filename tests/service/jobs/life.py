"""One life of a process that works on a batch: begun by the test, and ended by it with SIGKILL."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from service.jobs.arrivals import copy
from service.schemas import PredictOptions
from service.scoring.scorer import in_thread
from tests.service.jobs.building import at_once, make_jobs
from tests.service.scoring.building import Answering

OWNER = "ada"
KEY = "one and the same"
CHUNK_ROWS = 10


def live(root: str, folder: str, seconds: float) -> None:
    """Hand in `folder/input` (the key makes it one batch over all lives) and work until it is done. `seconds`: that a
    row takes."""
    asyncio.run(_live(Path(root), Path(folder), seconds))


async def _live(root: Path, folder: Path, seconds: float) -> None:
    jobs = make_jobs(root, Answering(seconds), chunk_rows=CHUNK_ROWS, width=2)
    async with jobs.running(at_once):
        batch, _ = await jobs.submit(OWNER, KEY, PredictOptions(), partial(_take, folder))
        while batch.state in ("queued", "running"):
            await asyncio.sleep(0.01)
            batch = await jobs.find(OWNER, batch.id)


async def _take(folder: Path, to: Path) -> str:
    await in_thread(copy, folder, "input", to, 2**30)
    return "input"
