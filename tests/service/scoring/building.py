"""Small input files in every form, and an answer that needs no model."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.schemas import (
    ClusterOut,
    EmbeddingOut,
    OutcomeOut,
    PageOut,
    PredictRequest,
    PredictResponse,
    TookOut,
    TruncatedOut,
)
from service.scoring.served import Answer, Served

Document = dict[str, Any]

PAGES = ("/", "/bags", "/bags/tote", "/shoes", "/cart")
OUTCOMES = ("cart", "purchase")
VERSION = "v" * 64
BAD = {"user_id": "bad", "sessions": [{"started_at": "2026-11-01T10:00:00Z", "pages": []}]}


def documents(count: int, seed: int = 0) -> list[Document]:
    """Visitors with up to three sessions; some are new."""
    draw = random.Random(seed)
    return [
        {
            "user_id": f"u{i}",
            "sessions": [
                {"started_at": f"2026-11-0{1 + day}T10:00:00Z", "pages": draw.choices(PAGES, k=draw.randint(1, 4))}
                for day in range(draw.randint(0, 3))
            ],
        }
        for i in range(count)
    ]


def ndjson(path: Path, rows: Sequence[Document]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def gzipped(path: Path, rows: Sequence[Document]) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0))
    return path


def dataset(path: Path, rows: Sequence[Document], row_group: int = 7) -> Path:
    """In the columns that `hetlm ingest` writes, with columns that scoring does not need."""
    moment = pa.timestamp("us", "UTC")
    table = pa.table(
        {
            "user_id": pa.array([row["user_id"] for row in rows], pa.large_string()),
            "history": pa.array(
                [[session["pages"] for session in row["sessions"]] for row in rows],
                pa.large_list(pa.large_list(pa.large_string())),
            ),
            "history_started_at": pa.array(
                [[_time(session["started_at"]) for session in row["sessions"]] for row in rows],
                pa.large_list(moment),
            ),
            "next_session": pa.array([["/"]] * len(rows), pa.large_list(pa.large_string())),
        }
    )
    pq.write_table(table, path, row_group_size=row_group)
    return path


def nested(path: Path, rows: Sequence[Document], row_group: int = 7) -> Path:
    """The documents of `POST /predict` as Parquet; times without a zone, in nanoseconds."""
    session = pa.struct([("started_at", pa.timestamp("ns")), ("pages", pa.list_(pa.string()))])
    table = pa.table(
        {
            "user_id": [row["user_id"] for row in rows],
            "sessions": pa.array(
                [
                    [{**s, "started_at": _time(s["started_at"]).replace(tzinfo=None)} for s in row["sessions"]]
                    for row in rows
                ],
                pa.list_(session),
            ),
            "options": pa.array([row.get("options") for row in rows], pa.struct([("samples", pa.int64())])),
        }
    )
    pq.write_table(table, path, row_group_size=row_group)
    return path


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def served(answer: Answer, version: str = VERSION) -> Served:
    return Served(version, OUTCOMES, answer)


def answered(request: PredictRequest, request_id: str, version: str = VERSION) -> PredictResponse:
    """An answer that is a function of the request alone."""
    digest = hashlib.sha256(request.model_dump_json().encode()).digest()
    chances = [byte / 255 for byte in digest[:8]]
    sessions = request.sessions or []
    last = sessions[-1].pages if sessions else ["/"]
    return PredictResponse(
        request_id=request_id,
        bundle_version=version,
        user_id=request.user_id,
        cluster=ClusterOut(id=digest[0] % 2, name=f"kind {digest[0] % 2}", probability=chances[0]),
        next_session=list(last),
        pages=[
            PageOut(page=page, probability=chance, seen_before=page in last, estimator="count")
            for page, chance in zip(PAGES, chances, strict=False)
        ],
        outcomes={
            name: OutcomeOut(
                probability=chances[6 + i],
                raw=chances[6 + i],
                calibrated=False,
                interval=(0.0, 1.0),
                within_7_days=None,
            )
            for i, name in enumerate(OUTCOMES)
        },
        unknown_pages=[],
        truncated=TruncatedOut(sessions_dropped=0),
        unfinished_paths=0.0,
        fallback=None if sessions else "no_history",
        embedding=EmbeddingOut(sessions=len(sessions), cached=0),
        took_ms=TookOut(total=1.0, embed=0.0, select=0.0, generate=1.0, estimate=0.0),
    )


class Answering:
    """Remembers whom it was asked about. `seconds`: that an answer takes. `version`: whose answers these are.
    `fallbacks`: answers to come from none of the engines."""

    def __init__(self, seconds: float = 0.0, version: str = VERSION) -> None:
        self.seconds = seconds
        self.version = version
        self.asked: list[PredictRequest] = []
        self.fallbacks = 0
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def __call__(self, request: PredictRequest, request_id: str) -> PredictResponse:
        self.asked.append(request)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        answer = answered(request, request_id, self.version)
        if self.fallbacks:
            self.fallbacks -= 1
            return answer.model_copy(update={"fallback": "engine_down"})
        return answer
