"""A small service with a known schedule of latencies, which answers rightly, or wrongly in a known way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

VERSION = "f" * 64
PAGES = ("/", "/bags", "/bags/tote", "/shoes", "/shoes/red", "/cart", "/purchase", "/about", "/sale", "/help")
Document = dict[str, Any]
Delay = Callable[[float], float]
"""From the loop's time at which a request arrived to the seconds that it takes."""


def answer(asked: Document, request_id: str, *, cluster: int = 0) -> Document:
    """What a right service says to `asked`."""
    seen = {page for session in asked["sessions"] for page in session["pages"]}
    listed = list(PAGES[: asked.get("options", {}).get("top_pages", 20)])
    return {
        "request_id": request_id,
        "bundle_version": VERSION,
        "user_id": asked["user_id"],
        "condition": "next_session",
        "cluster": {"id": cluster, "name": "everybody", "probability": 1.0},
        "next_session": listed[:2],
        "pages": [
            {"page": page, "probability": 0.9 - 0.05 * i, "seen_before": page in seen, "estimator": "count"}
            for i, page in enumerate(listed)
        ],
        "outcomes": {"cart": {"probability": 0.2, "raw": 0.25, "calibrated": True, "interval": [0.1, 0.3]}},
        "return_within_7_days": None,
        "unknown_pages": sorted(seen - set(PAGES)),
        "truncated": {"sessions_dropped": 0},
        "unfinished_paths": 0.0,
        "fallback": None,
        "embedding": {"sessions": len(asked["sessions"]), "cached": 0},
        "took_ms": {"total": 1.0, "embed": 0.1, "select": 0.1, "generate": 0.7, "estimate": 0.1},
    }


def problem(status: int, kind: str, request_id: str) -> Document:
    document = {"type": f"urn:hetlm:problem:{kind}", "title": kind, "status": status, "detail": "Later."}
    return {**document, "request_id": request_id}


@dataclass
class Fake:
    """`delay`: per request. `files_slow`: what a file under way multiplies it by. `change`: given the answer and the
    number of the request, the answer that is sent. `refuse`: by the loop's time, whether with 429."""

    delay: Delay = lambda _: 0.01
    files_slow: float = 1.0
    change: Callable[[Document, int], Document] = lambda document, _: document
    refuse: Callable[[float], bool] = lambda _: False
    has_batches: bool = True
    row_seconds: float = 0.05
    jobs: dict[str, tuple[float, list[Document]]] = field(default_factory=dict)
    asked: list[Document] = field(default_factory=list)
    most_at_once: int = 0
    deleted: int = 0
    _inside: int = 0

    @property
    def transport(self) -> httpx.ASGITransport:
        routes = [
            Route("/readyz", self._ready),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/predict/batch", self._items, methods=["POST"]),
        ]
        if self.has_batches:
            routes += [
                Route("/batches", self._submit, methods=["POST"]),
                Route("/batches/{id}", self._job),
                Route("/batches/{id}/results", self._results),
                Route("/batches/{id}", self._delete, methods=["DELETE"]),
            ]
        return httpx.ASGITransport(Starlette(routes=routes))

    async def _ready(self, _: Request) -> Response:
        return JSONResponse({"status": "ready", "bundle_version": VERSION, "clusters": 2, "clusters_down": []})

    async def _predict(self, request: Request) -> Response:
        now = asyncio.get_running_loop().time()
        request_id = request.headers["x-request-id"]
        number = len(self.asked)
        asked = await request.json()
        self.asked.append(asked)
        if self.refuse(now):
            headers = {"x-request-id": request_id, "retry-after": "1"}
            body = problem(429, "overloaded", request_id)
            return JSONResponse(body, 429, headers, "application/problem+json")
        self._inside += 1
        self.most_at_once = max(self.most_at_once, self._inside)
        try:
            await asyncio.sleep(self.delay(now) * (self.files_slow if self.jobs else 1.0))
        finally:
            self._inside -= 1
        made = self.change(answer(asked, request_id, cluster=int(asked["user_id"].rpartition("-")[2]) % 2), number)
        return JSONResponse(made, headers={"x-request-id": request_id})

    async def _items(self, request: Request) -> Response:
        items = (await request.json())["items"]
        await asyncio.sleep(self.row_seconds * len(items))
        return JSONResponse(
            {"items": [answer(item, f"{request.headers['x-request-id']}.{i}") for i, item in enumerate(items)]}
        )

    async def _submit(self, request: Request) -> Response:
        rows = [json.loads(line) for line in (await request.body()).splitlines()]
        name = f"job-{len(self.jobs) + self.deleted:08}"
        self.jobs[name] = (asyncio.get_running_loop().time(), rows)
        return JSONResponse(self._document(name), 202)

    def _document(self, name: str) -> Document:
        began, rows = self.jobs[name]
        done = min(len(rows), int((asyncio.get_running_loop().time() - began) / self.row_seconds))
        state = "done" if done == len(rows) else "running"
        return {"id": name, "state": state, "rows": len(rows), "done": done, "failed": 0}

    async def _job(self, request: Request) -> Response:
        return JSONResponse(self._document(request.path_params["id"]))

    async def _results(self, request: Request) -> Response:
        _, rows = self.jobs[request.path_params["id"]]
        lines = [{"row": i, "user_id": row["user_id"], "problem": None} for i, row in enumerate(rows)]
        return Response("\n".join(map(json.dumps, lines)), media_type="application/x-ndjson")

    async def _delete(self, request: Request) -> Response:
        document = self._document(request.path_params["id"])
        del self.jobs[document["id"]]
        self.deleted += 1
        return JSONResponse({**document, "state": "cancelled"})


def stalled(start: float, seconds: float, otherwise: float) -> Delay:
    """The server hangs: what arrives in these seconds is answered at their end."""
    return lambda now: start + seconds - now + otherwise if start <= now < start + seconds else otherwise


def users(asked: Sequence[Document]) -> list[str]:
    return [document["user_id"] for document in asked]
