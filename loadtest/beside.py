"""Work on files beside the online load: `/batches` where the service has it, else `/predict/batch`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from loadtest.answers import Answer, BatchJob, BatchRow
from loadtest.check import wrong
from loadtest.client import JSON, ServiceError
from loadtest.result import Batch
from loadtest.workload import Question

NDJSON = "application/x-ndjson"
ITEMS = 50
"""Of one `/predict/batch`."""
POLL_SECONDS = 1.0
PATIENCE = 60.0
"""Seconds for which a first file that is refused is handed over again."""
NOT_NOW = (429, 503)
_ENDED = ("done", "failed", "cancelled")


class NotNowError(RuntimeError):
    """Refused honestly: to be tried again."""


class _Items(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)

    items: list[Answer | dict[str, object]]


@dataclass
class FileWork:
    """Keeps the service busy with files until `stop`. `rows`: of one file. What is refused is tried again; any other
    answer that is none ends the work, and the account says so."""

    client: httpx.AsyncClient
    questions: Sequence[Question]
    versions: frozenset[str]
    rows: int
    route: Literal["/batches", "/predict/batch"] = "/batches"
    _scored: int = 0
    _files: int = 0
    _wrong: int = 0
    _refused: int = 0
    _ended: str | None = None
    _began: float = 0.0
    _job: BatchJob | None = None
    _task: asyncio.Task[None] | None = field(default=None, repr=False)

    async def start(self) -> None:
        """The first file is handed over when this returns. Raises `ServiceError`."""
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        while True:
            try:
                self._job = await self._submit()
                break
            except NotNowError as refusal:
                self._refused += 1
                if loop.time() > self._began + PATIENCE:
                    raise ServiceError(f"no file is taken: {refusal}") from None
                await asyncio.sleep(POLL_SECONDS)
        if self._job is None:
            self.route = "/predict/batch"
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> Batch:
        """What was done; what is under way is given up. A service that is gone by now takes nothing of it back."""
        if self._task is None:
            raise RuntimeError("not started")
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._job is not None:
            with contextlib.suppress(httpx.TransportError, ValidationError):
                gone = await self.client.delete(f"/batches/{self._job.id}")
                if gone.status_code == 200 and self._job.state not in _ENDED:
                    self._scored += BatchJob.model_validate_json(gone.content).done
        seconds = asyncio.get_running_loop().time() - self._began
        return Batch(
            route=self.route,
            rows=self._scored,
            rows_per_second=round(self._scored / seconds, 3),
            files=self._files,
            wrong=self._wrong,
            refused=self._refused,
            ended=self._ended,
        )

    async def _work(self) -> None:
        while True:
            try:
                await (self._items() if self.route == "/predict/batch" else self._file())
            except NotNowError:
                self._refused += 1
                await asyncio.sleep(POLL_SECONDS)
            except httpx.TransportError:
                await asyncio.sleep(POLL_SECONDS)  # a service that was killed and comes again
            except (ServiceError, ValidationError) as error:
                self._ended = f"{type(error).__name__}: {error}" if isinstance(error, ServiceError) else "malformed job"
                return

    async def _submit(self) -> BatchJob | None:
        """A new job; None where the service has no `/batches`."""
        lines = b"\n".join(self.questions[i % len(self.questions)].body for i in range(self.rows))
        response = await self.client.post("/batches", content=lines, headers={"Content-Type": NDJSON})
        if response.status_code in (404, 405):
            return None
        if response.status_code in NOT_NOW:
            raise NotNowError(f"POST /batches answered {response.status_code}: {_detail(response)}")
        if response.status_code != 202:
            raise ServiceError(f"POST /batches answered {response.status_code}: {_detail(response)}")
        return BatchJob.model_validate_json(response.content)

    async def _file(self) -> None:
        """One file to its end; then its result is read, and the next one handed over."""
        if self._job is None:
            self._job = await self._submit()
            if self._job is None:
                raise ServiceError("/batches was there and is gone")
        while self._job.state not in _ENDED:
            await asyncio.sleep(POLL_SECONDS)
            response = await self.client.get(f"/batches/{self._job.id}")
            if response.status_code == 200:
                self._job = BatchJob.model_validate_json(response.content)
            elif response.status_code == 404:  # accepted, and forgotten
                self._wrong += self.rows
                self._job = None
                return
        wrong = await self._wrong_rows(self._job) if self._job.state == "done" else self.rows
        ended, self._job = self._job, None  # counted once, whatever becomes of it
        self._scored += ended.done
        self._files += 1
        self._wrong += wrong
        if ended.state != "done":
            await asyncio.sleep(POLL_SECONDS)  # what failed at once would fail at once again
        await self.client.delete(f"/batches/{ended.id}")

    async def _wrong_rows(self, job: BatchJob) -> int:
        """Read as it comes, so that the generator gets on between two pieces."""
        rows = Rows(self.questions, self.rows)
        async with self.client.stream("GET", f"/batches/{job.id}/results", headers={"Accept": NDJSON}) as response:
            if response.status_code in NOT_NOW:
                raise NotNowError(f"the result was answered {response.status_code}")
            if response.status_code == 200:
                async for line in response.aiter_lines():
                    rows.see(line)
        return rows.wrong()

    async def _items(self) -> None:
        chosen = [self.questions[(self._files * ITEMS + i) % len(self.questions)] for i in range(ITEMS)]
        document = b'{"items":[' + b",".join(question.body for question in chosen) + b"]}"
        request_id = f"files-{secrets.token_hex(4)}"
        headers = {"Content-Type": JSON, "X-Request-Id": request_id}
        response = await self.client.post("/predict/batch", content=document, headers=headers)
        if response.status_code in NOT_NOW:
            raise NotNowError(f"POST /predict/batch answered {response.status_code}")
        if response.status_code != 200:
            raise ServiceError(f"POST /predict/batch answered {response.status_code}: {_detail(response)}")
        self._files += 1
        self._scored += ITEMS
        self._wrong += wrong_items(response.content, chosen, request_id, self.versions)


class Rows:
    """The rows of a result, one JSON document per line: every row of the file once, its own visitor's, and scored."""

    def __init__(self, questions: Sequence[Question], rows: int) -> None:
        self._questions = questions
        self._seen: Counter[int] = Counter()
        self._bad: set[int] = set()
        self._stray = 0
        self._rows = rows

    def see(self, line: str) -> None:
        try:
            row = BatchRow.model_validate_json(line)
        except ValidationError:
            self._stray += 1
            return
        if row.row >= self._rows:
            self._stray += 1
            return
        self._seen[row.row] += 1
        asked = self._questions[row.row % len(self._questions)]
        if row.user_id != asked.user_id or row.problem is not None:
            self._bad.add(row.row)

    def wrong(self) -> int:
        """Lost, doubled, another visitor's, not scored; and lines that are no row of this file."""
        return self._stray + len(self._bad | {row for row in range(self._rows) if self._seen[row] != 1})


def wrong_items(content: bytes, chosen: Sequence[Question], request_id: str, versions: frozenset[str]) -> int:
    """Items of a `/predict/batch` that are not right, in number and order too. `request_id`: of the whole; an item's
    is `<request_id>.<place>`."""
    try:
        items = _Items.model_validate_json(content).items
    except ValidationError:
        return len(chosen)
    right = sum(
        isinstance(item, Answer) and wrong(item, question, f"{request_id}.{place}", versions, None) is None
        for place, (item, question) in enumerate(zip(items, chosen, strict=False))
    )
    return max(len(chosen), len(items)) - right


def _detail(response: httpx.Response) -> str:
    try:
        return str(json.loads(response.content)["detail"])
    except (ValueError, KeyError, TypeError):
        return "no problem document"
