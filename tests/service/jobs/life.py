"""One life of a process that works on a batch, and ends itself with SIGKILL where the test says so.

Where it is struck is counted in steps, not in seconds: before a row is answered, before something changes on the disk,
before and after the book is written.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

from service.jobs.ledger import Job, Ledger
from service.jobs.uploads import named
from service.schemas import PredictOptions, PredictRequest, PredictResponse
from tests.service.jobs.building import Now, at_once, make_jobs
from tests.service.scoring.building import Answering

OWNER = "ada"
KEY = "one and the same"
CHUNK_ROWS = 10
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
"""The events of a file system that is changed; one that is opened for writing is another."""

Step = Literal["row", "disk", "book"]


class Steps:
    """Counts the steps of each kind, and strikes before number `at` of `kind`; never, where `kind` is None."""

    def __init__(self, kind: Step | None, at: int) -> None:
        self.kind = kind
        self.at = at
        self.count: dict[Step, int] = {"row": 0, "disk": 0, "book": 0}

    def take(self, kind: Step) -> None:
        if kind == self.kind and self.count[kind] == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count[kind] += 1

    def watch(self, root: Path) -> None:
        """From now on, in this process, whatever changes below `root` is a step."""
        inside = str(root)

        def on(event: str, args: tuple[Any, ...]) -> None:
            writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            if (event in CHANGES or writes) and str(args[0]).startswith(inside) and "sqlite" not in str(args[0]):
                self.take("disk")

        sys.addaudithook(on)


class Noting(Ledger):
    """Every change of the book is two steps: before it, and after it."""

    steps: Steps

    async def add(self, job: Job) -> None:
        self.steps.take("book")
        await super().add(job)
        self.steps.take("book")

    async def save(self, job: Job) -> bool:
        self.steps.take("book")
        saved = await super().save(job)
        self.steps.take("book")
        return saved


def live(root: str, folder: str, kind: Step | None = None, at: int = 0, told: str | None = None) -> None:
    """Hand in `folder/input` (the key makes it one batch over all lives) and work until it is done, or until it is
    struck before step `at` of `kind`. `told`: a file for the number of steps of each kind."""
    steps = Steps(kind, at)
    asyncio.run(_live(Path(root), Path(folder), steps))
    if told is not None:
        Path(told).write_text(" ".join(f"{kind} {count}" for kind, count in steps.count.items()))


async def _live(root: Path, folder: Path, steps: Steps) -> None:
    answering = Answering()

    async def answer(request: PredictRequest, request_id: str) -> PredictResponse:
        steps.take("row")
        return await answering(request, request_id)

    # Rows are answered as of the moment when their batch was made: one and the same for all batches here.
    jobs = make_jobs(root, answer, chunk_rows=CHUNK_ROWS, width=2, clock=Now())
    jobs._ledger.__class__ = Noting
    jobs._ledger.steps = steps  # type: ignore[attr-defined]
    async with jobs.running(at_once):
        steps.watch(root)
        batch, _ = await jobs.submit(OWNER, KEY, PredictOptions(), partial(named, folder, "input", limit=2**30))
        while batch.state in ("queued", "running"):
            await asyncio.sleep(0.01)
            batch = await jobs.find(OWNER, batch.id)
