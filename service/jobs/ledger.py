"""The jobs' book: an SQLite file. It knows who owns what and how far it is, and nothing of any visitor."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from service.problems import Problem
from service.schemas import PredictOptions
from service.scoring.results import Tally
from service.scoring.threads import unbroken

State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
UNFINISHED: tuple[State, ...] = ("queued", "running")
_UNFINISHED = "state IN ('queued', 'running')"
T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    idempotency_key TEXT,
    fingerprint TEXT NOT NULL,
    options TEXT NOT NULL,
    created REAL NOT NULL,
    state TEXT NOT NULL,
    started REAL,
    ended REAL,
    expires REAL,
    rows INTEGER,
    done INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    fallbacks INTEGER NOT NULL,
    bundle_version TEXT,
    problem TEXT,
    restarts INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, idempotency_key)
) STRICT
"""
_RESTARTS = "ALTER TABLE jobs ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0"
"""For a book that was begun without it."""
_FIXED = ("id", "owner", "idempotency_key", "fingerprint", "options", "created")
_CHANGING = (
    "state", "started", "ended", "expires", "rows", "done", "failed", "fallbacks", "bundle_version", "problem",
    "restarts",
)  # fmt: skip
_INSERT = (
    f"INSERT INTO jobs ({', '.join((*_FIXED, *_CHANGING))}) VALUES ({', '.join('?' * len((*_FIXED, *_CHANGING)))})"
)
_UPDATE = f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE id = ?"


class KeyTakenError(Exception):
    """The owner has a job under this idempotency key."""


@dataclass(frozen=True, slots=True)
class Job:
    """Times are seconds since 1970. `fingerprint`: of what was asked for, for the idempotency key. `expires`: when it
    is deleted; until it has ended, when it fails unless another chunk is done before; None in an earlier version's
    book, until it has ended. `rows`: None until the input was read once. `bundle_version`: of the rows that are done.
    `restarts`: how often it has begun again because that was no longer served."""

    id: str
    owner: str
    idempotency_key: str | None
    fingerprint: str
    options: PredictOptions
    created: float
    state: State = "queued"
    started: float | None = None
    ended: float | None = None
    expires: float | None = None
    rows: int | None = None
    tally: Tally = field(default_factory=Tally)
    bundle_version: str | None = None
    problem: Problem | None = None
    restarts: int = 0


class Ledger:
    """One connection in one thread. Every method raises `sqlite3.Error`, and `OSError` where the disk is full."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                self._connection.execute(f"PRAGMA {setting}")
            self._connection.execute(_SCHEMA)
            if "restarts" not in {row[1] for row in self._connection.execute("PRAGMA table_info(jobs)")}:
                self._connection.execute(_RESTARTS)
        except sqlite3.Error:
            self._connection.close()
            raise
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    async def close(self) -> None:
        await self._run(self._connection.close)
        self._executor.shutdown(wait=False)

    async def add(self, job: Job) -> None:
        """Raises `KeyTakenError`."""
        fixed = (job.id, job.owner, job.idempotency_key, job.fingerprint, _json(job.options), job.created)

        def insert() -> None:
            try:
                self._connection.execute(_INSERT, (*fixed, *_changing(job)))
            except sqlite3.IntegrityError:
                raise KeyTakenError from None

        await self._run(insert)

    async def save(self, job: Job) -> bool:
        """Keep how far it is. False where it was deleted meanwhile."""
        return await self._run(lambda: self._connection.execute(_UPDATE, (*_changing(job), job.id)).rowcount == 1)

    async def delete(self, job_id: str) -> bool:
        return await self._run(
            lambda: self._connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,)).rowcount == 1
        )

    async def find(self, job_id: str) -> Job | None:
        return _first(await self._select("WHERE id = ?", (job_id,)))

    async def by_key(self, owner: str, key: str) -> Job | None:
        return _first(await self._select("WHERE owner = ? AND idempotency_key = ?", (owner, key)))

    async def of(self, owner: str, now: float, limit: int, behind: tuple[float, str] | None = None) -> list[Job]:
        """The newest first, without those that have expired. `behind`: time of creation and id of the last one that is
        known already."""
        where, values = f"WHERE owner = ? AND ({_UNFINISHED} OR expires > ?)", [owner, now]
        if behind is not None:
            where += " AND (created < ? OR (created = ? AND id > ?))"
            values += [behind[0], *behind]
        return await self._select(f"{where} ORDER BY created DESC, id LIMIT ?", (*values, limit))

    async def unfinished(self, owner: str) -> int:
        return len(await self._select(f"WHERE owner = ? AND {_UNFINISHED}", (owner,)))

    async def next(self, without: Collection[str]) -> Job | None:
        """The one to work on: what was begun before what was not, then by age."""
        waiting = await self._select(f"WHERE {_UNFINISHED} ORDER BY state = 'queued', created, id", ())
        return _first([job for job in waiting if job.id not in without])

    async def all(self) -> list[Job]:
        return await self._select("", ())

    async def expired(self, now: float) -> list[Job]:
        """Those that have ended and those that have not."""
        return await self._select("WHERE expires <= ?", (now,))

    async def count(self) -> dict[State, int]:
        """How many there are in each state."""
        query = "SELECT state, count(*) FROM jobs GROUP BY state"
        found = dict(await self._run(lambda: self._connection.execute(query).fetchall()))
        return {state: int(found.get(state, 0)) for state in STATES}

    async def _select(self, where: str, values: Sequence[object]) -> list[Job]:
        query = f"SELECT {', '.join((*_FIXED, *_CHANGING))} FROM jobs {where}"
        rows = await self._run(lambda: self._connection.execute(query, tuple(values)).fetchall())
        return [_job(row) for row in rows]

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            # What is begun will be done: who is cancelled waits, and knows that it is.
            return await unbroken(asyncio.get_running_loop().run_in_executor(self._executor, call))
        except sqlite3.OperationalError as error:
            primary = error.sqlite_errorcode & 0xFF
            if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                number = errno.ENOSPC if primary == sqlite3.SQLITE_FULL else errno.EIO
                raise OSError(number, "the jobs' book cannot be written") from error
            raise


def _json(options: PredictOptions) -> str:
    return options.model_dump_json(exclude_unset=True)


def _changing(job: Job) -> tuple[object, ...]:
    tally = job.tally
    return (
        job.state,
        job.started,
        job.ended,
        job.expires,
        job.rows,
        tally.done,
        tally.failed,
        tally.fallbacks,
        job.bundle_version,
        job.problem.model_dump_json() if job.problem is not None else None,
        job.restarts,
    )


def _job(row: Sequence[object]) -> Job:
    held = dict(zip((*_FIXED, *_CHANGING), row, strict=True))
    tally = Tally(*(int(str(held.pop(name))) for name in ("done", "failed", "fallbacks")))
    options, problem = held.pop("options"), held.pop("problem")
    return Job(
        **held,  # type: ignore[arg-type]
        options=PredictOptions.model_validate_json(str(options)),
        tally=tally,
        problem=Problem.model_validate_json(str(problem)) if problem is not None else None,
    )


def _first(found: Sequence[Job]) -> Job | None:
    return found[0] if found else None
