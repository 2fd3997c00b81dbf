"""SIGKILL at random moments to a service that scores a file: every row comes out exactly once, as without."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path

import httpx

from browsing.console import progress
from loadtest.answers import BatchJob
from loadtest.beside import NDJSON, Rows
from loadtest.client import ServiceError, connect
from loadtest.soak import report
from loadtest.soak.crowd import questions
from loadtest.soak.reference import TOLERANCE
from loadtest.soak.serving import Served, start
from loadtest.stage import machine
from loadtest.workload import Question

VISITORS = 50
CHUNK_ROWS = 10
ROWS_PER_KILL = 60
"""Of the first file: what a life is expected to score at most before it is killed. A machine that is done sooner gets
a file twice as long, and the kills begin again."""
LONGEST_FILE = 100_000
"""Rows: a file that is scored between two kills even so is a fault of the trial."""
LONGEST_LIFE = 1.5
"""Seconds from the first look at the job to the kill, at most."""
KEY = {"Idempotency-Key": "one-and-the-same", "Content-Type": NDJSON}
TEMPORARY = frozenset(("request_id", "took_ms", "bundle_version"))
"""Of a result's row: what differs between two runs that scored the same."""
PATIENCE = 1_800.0
SETTINGS = {
    "HETLM_BATCH_CHUNK_ROWS": str(CHUNK_ROWS),
    "HETLM_BATCH_CONCURRENCY": "2",
    "HETLM_ENGINE_DEADLINE_MS": "60000",  # on a slow machine too it is the model that answers
}


async def run(bundle: Path, folder: Path, *, kills: int = 50, seed: int = 0) -> report.Section:
    """One batch over `kills` lives of the service and one more; then the same rows undisturbed. Raises `StartError`,
    `ServiceError`."""
    load_before, began = report.load(), time.monotonic()
    people = questions(bundle, VISITORS, samples=1)
    rows = (kills + 1) * ROWS_PER_KILL
    while True:
        body = b"\n".join(people[row % VISITORS].body for row in range(rows))
        name = f"disturbed-{rows}"
        under_way = await _killed(bundle, folder, name, body, kills, random.Random(seed))
        if under_way is not None:
            break
        if 2 * rows > LONGEST_FILE:
            raise ServiceError(f"a batch of {rows:,} rows was done before the last of {kills} kills")
        rows *= 2
    disturbed = await _to_the_end(bundle, folder, name, body, kills)
    undisturbed = await _to_the_end(bundle, folder, "quiet", body, 0)
    wrong = _wrong(people, rows, disturbed)
    others = sum(not same(_lasting(a), _lasting(b)) for a, b in zip(disturbed, undisturbed, strict=False))
    complaints = [f"{count} rows are not as without kills" for count in (others,) if count]
    complaints += ["without any kill rows are wrong too"] * bool(_wrong(people, rows, undisturbed))
    return report.Section(
        section="kills",
        command=f"python -m loadtest.soak kills --kills {kills}",
        figures=(
            report.Figure(
                figure=f"batch rows lost or doubled over {kills} random kills",
                measured=f"{wrong} of {rows:,}",
                gate="0",
                passed=wrong == 0,
            ),
        ),
        complaints=tuple(complaints),
        answers=None,
        machine=machine(load_before),
        seconds=round(time.monotonic() - began, 1),
        details={"rows": rows, "rows_done_at_each_kill": under_way, "chunk_rows": CHUNK_ROWS},
    )


async def _killed(
    bundle: Path, folder: Path, name: str, body: bytes, kills: int, draw: random.Random
) -> list[int] | None:
    """The rows that were done at each kill of the service; None where the batch was done before the last of them, so
    that there was nothing to interrupt."""
    done: list[int] = []
    with progress("Kills", kills, "kills") as advance:
        for number in range(kills):
            served = await _life(bundle, folder, name, number)
            try:
                async with connect(served.url) as client:
                    job = await _hand_in(client, body)
                    await asyncio.sleep(draw.random() * LONGEST_LIFE)
                    job = await _look(client, job.id)
            finally:
                served.kill()
            if job.state == "done":
                return None
            if job.state not in ("queued", "running"):
                raise ServiceError(f"the batch was {job.state} after {number} kills")
            done.append(job.done)
            advance(1)
    return done


async def _life(bundle: Path, folder: Path, name: str, number: int) -> Served:
    return await start(
        bundle,
        folder / f"{name}-{number}.log",
        ["--batch-dir", str(folder / name), "--log-level", "warning"],
        variables=SETTINGS,
    )


async def _hand_in(client: httpx.AsyncClient, body: bytes) -> BatchJob:
    """The same key every time: it is one batch over all lives."""
    response = await client.post("/batches", content=body, headers=KEY)
    if response.status_code not in (200, 202):
        raise ServiceError(f"POST /batches answered {response.status_code}: {response.text[:300]}")
    return BatchJob.model_validate_json(response.content)


async def _look(client: httpx.AsyncClient, job_id: str) -> BatchJob:
    response = await client.get(f"/batches/{job_id}")
    if response.status_code != 200:
        raise ServiceError(f"GET /batches/... answered {response.status_code}: {response.text[:300]}")
    return BatchJob.model_validate_json(response.content)


async def _to_the_end(bundle: Path, folder: Path, name: str, body: bytes, number: int) -> list[str]:
    """The lines of the result."""
    served = await _life(bundle, folder, name, number)
    try:
        async with connect(served.url) as client:
            job = await _hand_in(client, body)
            await _ended(client, job.id)
            response = await client.get(f"/batches/{job.id}/results", headers={"Accept": NDJSON})
            if response.status_code != 200:
                raise ServiceError(f"the result was answered {response.status_code}: {response.text[:300]}")
            return response.text.splitlines()
    finally:
        await served.end()


async def _ended(client: httpx.AsyncClient, job_id: str) -> None:
    end = time.monotonic() + PATIENCE
    while (await _look(client, job_id)).state in ("queued", "running"):
        if time.monotonic() > end:
            raise ServiceError("the batch does not come to its end")
        await asyncio.sleep(0.2)


def _wrong(people: tuple[Question, ...], rows: int, lines: list[str]) -> int:
    seen = Rows(people, rows)
    for line in lines:
        seen.see(line)
    return seen.wrong()


def _lasting(line: str) -> dict[str, object]:
    return {name: value for name, value in json.loads(line).items() if name not in TEMPORARY}


def same(one: object, other: object) -> bool:
    """Two rows' members, probabilities to within `TOLERANCE`: what is computed beside a row may touch the last bits."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE
    return one == other
