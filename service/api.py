"""The routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import ValidationError

from service.batch import Answer, Batch, items_of
from service.health import Readiness
from service.limits import read_json
from service.metrics import Metrics
from service.pipeline import RETRY_AFTER
from service.problems import ProblemError, invalid, request_id_of
from service.resilience.disconnect import cancelled_on_disconnect
from service.responses import json_response, problem_responses
from service.schemas import BatchResponse, PredictRequest, PredictResponse, ReadyResponse
from service.scoring.online import Online
from service.security.guard import pay
from service.security.values import MAX_VALUES, bounded
from service.settings import Settings
from service.versions.router import Router

NDJSON = "application/x-ndjson"
JSON = "application/json"


_WORDS = {
    400: "not JSON",
    408: "the body took too long",
    413: "the body is too large",
    415: "not declared as JSON",
    422: "a field is wrong; `errors` names it",
    429: "too much is under way to answer in time; `Retry-After` says when",
    503: "not now; `Retry-After` says when",
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return problem_responses({status: _WORDS[status] for status in statuses})


def routes(
    versions: Router, batch: Batch, health: Readiness, metrics: Metrics, settings: Settings, online: Online
) -> APIRouter:
    """All addresses of the main port. The bodies' schemas and examples come from `service.openapi`."""
    router = APIRouter()

    @router.post(
        "/predict",
        response_model=PredictResponse,
        responses=_problems(400, 408, 413, 415, 422, 429, 503),
        summary="The next session of one visitor",
    )
    async def predict(request: Request) -> Response:
        """Given that the visitor returns: which pages, in which order, and how likely a cart and a purchase are."""
        try:
            body = await read_json(request, settings.body_limit_bytes, settings.body_timeout_seconds)
            bounded(body, MAX_VALUES)
            asked = PredictRequest.model_validate_json(body)
        except ValidationError as error:
            metrics.no_prediction("refused")
            raise invalid(error) from None
        except Exception as error:
            metrics.no_prediction("refused" if isinstance(error, ProblemError) else "failed")
            raise
        with online.request():
            answer = await cancelled_on_disconnect(request, versions.answer(asked, request_id_of(request) or ""))
        return json_response(answer)

    @router.post(
        "/predict/batch",
        response_model=BatchResponse,
        responses=_problems(400, 408, 413, 415, 422),
        summary="The next sessions of up to 1,000 visitors",
    )
    async def predict_batch(request: Request) -> Response:
        """Answers come in the order of the items; a wrong item becomes a problem at its place. With `Accept:
        application/x-ndjson` they are streamed, one line each."""
        body = await read_json(request, settings.batch_body_limit_bytes, settings.body_timeout_seconds)
        items = await asyncio.to_thread(items_of, body)
        pay(request, len(items) - 1)
        answers = batch.answers(items, request_id_of(request) or "")
        headers = {"Cache-Control": "no-store"}
        if NDJSON in request.headers.get("accept", ""):
            return StreamingResponse(_lines(answers), media_type=NDJSON, headers=headers)
        documents = await cancelled_on_disconnect(request, _documents(answers))
        return Response('{"items":[' + ",".join(documents) + "]}", media_type=JSON, headers=headers)

    @router.get("/livez", response_class=Response, summary="Whether the process runs: an empty answer")
    async def livez() -> Response:
        return Response()

    @router.get(
        "/readyz",
        response_model=ReadyResponse,
        responses=_problems(503),
        summary="Whether requests are welcome: an engine answered a real token a moment ago, and no end is near",
    )
    async def readyz() -> Response:
        if not health.ready:
            what = "starts" if health.starting else "does not answer"
            engines = f"The engine of cluster {', '.join(map(str, health.down))} {what}."
            raise ProblemError(
                "not-ready",
                "The service is about to stop." if health.draining else engines,
                headers={"Retry-After": RETRY_AFTER},
            )
        ready = ReadyResponse(
            bundle_version=versions.serving.version,
            clusters=versions.serving.bundle.clusters,
            clusters_down=health.down,
        )
        return Response(ready.model_dump_json(), media_type=JSON)

    return router


async def _documents(answers: AsyncGenerator[Answer]) -> list[str]:
    async with aclosing(answers):
        return [answer.model_dump_json() async for answer in answers]


async def _lines(answers: AsyncGenerator[Answer]) -> AsyncIterator[bytes]:
    async with aclosing(answers):  # a caller who leaves takes what is still being worked on along
        async for answer in answers:
            yield answer.model_dump_json().encode() + b"\n"
