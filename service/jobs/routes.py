"""The addresses below `/batches`."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ValidationError

from service.jobs.arrivals import PIECE, TYPES, copy, upload
from service.jobs.documents import BatchesResponse, BatchFile, BatchJobResponse
from service.jobs.jobs import Jobs
from service.limits import read_json
from service.problems import MEDIA_TYPE, ProblemError, invalid, invalid_query
from service.schemas import PredictOptions
from service.scoring.results import lines
from service.scoring.scorer import in_thread
from service.settings import Settings

NDJSON = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
NAMED_FILE_BYTES = 16_384
LINES = 500
"""Rows of a result that are turned into NDJSON at once."""
_KEY = re.compile(r"[!-~]{1,128}")
_NO_STORE = {"Cache-Control": "no-store"}
_PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "a problem",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def batch_routes(jobs: Jobs, settings: Settings) -> APIRouter:
    """Everything here belongs to the caller that made it; to others it is not there."""
    router = APIRouter()

    @router.post(
        "/batches",
        response_model=BatchJobResponse,
        status_code=202,
        responses={200: {"model": BatchJobResponse, "description": "the batch that the key stands for"}, **_PROBLEM},
        openapi_extra=_submitting(),
        summary="Score a whole file",
    )
    async def submit(request: Request) -> Response:
        """The body is the file: Parquet, or NDJSON, gzipped or not, with one document of `POST /predict` per row; or
        Parquet in the columns that `hetlm ingest` writes. Options in the query are for rows that have none. As JSON the
        body names a file in the service's own folder. A repeated request with the same `Idempotency-Key` gets the batch
        that the first one made."""
        key = request.headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise ProblemError("invalid-request", "Idempotency-Key must have 1 to 128 visible ASCII characters.")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            named = await _named(request, settings)
            made, new = await jobs.submit(_caller(request), key, named.options, partial(_copied, settings, named.file))
        else:
            limit, patience = settings.batch_upload_limit_bytes, settings.body_timeout_seconds
            take = partial(upload, request, limit=limit, patience=patience)
            made, new = await jobs.submit(_caller(request), key, _options(request), take)
        return _json(made, 202 if new else 200, {"Location": f"/batches/{made.id}"})

    @router.get("/batches", response_model=BatchesResponse, responses=_PROBLEM, summary="One's own batches")
    async def listed(request: Request) -> Response:
        """The newest 100, newest first."""
        return _json(BatchesResponse(batches=await jobs.list(_caller(request))))

    @router.get(
        "/batches/{batch_id}", response_model=BatchJobResponse, responses=_PROBLEM, summary="How far a batch is"
    )
    async def found(request: Request, batch_id: str) -> Response:
        return _json(await jobs.find(_caller(request), batch_id))

    @router.get(
        "/batches/{batch_id}/results",
        responses={
            200: {
                "description": "one row per row of the input, in order",
                "content": {
                    PARQUET: {"schema": {"type": "string", "format": "binary"}},
                    NDJSON: {"schema": {"type": "string"}},
                },
            },
            **_PROBLEM,
        },
        response_class=Response,
        summary="The rows of a batch that is done",
    )
    async def results(request: Request, batch_id: str) -> Response:
        """Parquet; or, with `Accept: application/x-ndjson`, a JSON document per line."""
        path = await jobs.result(_caller(request), batch_id)
        try:
            file = path.open("rb")  # from here on it can be read, even if it is deleted
        except FileNotFoundError:
            raise ProblemError("no-such-batch", "The batch was deleted just now.") from None
        if NDJSON in request.headers.get("accept", ""):
            return StreamingResponse(_lines(file), media_type=NDJSON, headers=_NO_STORE)
        headers = {
            **_NO_STORE,
            "Content-Length": str(os.fstat(file.fileno()).st_size),
            "Content-Disposition": 'attachment; filename="scored.parquet"',
        }
        return StreamingResponse(_bytes(file), media_type=PARQUET, headers=headers)

    @router.delete("/batches/{batch_id}", response_model=BatchJobResponse, responses=_PROBLEM, summary="Delete a batch")
    async def deleted(request: Request, batch_id: str) -> Response:
        """Stops it if it is under way, and deletes input and result at once; what it was comes back."""
        return _json(await jobs.delete(_caller(request), batch_id))

    return router


def _caller(request: Request) -> str:
    """The name of the API key; everybody is one where there are no keys."""
    return str(getattr(request.state, "caller", "local"))


def _json(document: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = document.model_dump_json()
    return Response(body, status, {**_NO_STORE, **(headers or {})}, "application/json")


def _options(request: Request) -> PredictOptions:
    given = dict(request.query_params)
    try:
        return PredictOptions.model_validate_strings(given, strict=False)
    except ValidationError as error:
        raise invalid_query(error) from None


async def _named(request: Request, settings: Settings) -> BatchFile:
    if settings.batch_input_dir is None:
        raise ProblemError("not-a-file", "Files cannot be named here (HETLM_BATCH_INPUT_DIR is not set): upload them.")
    body = await read_json(request, NAMED_FILE_BYTES, settings.body_timeout_seconds)
    try:
        return BatchFile.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None


async def _copied(settings: Settings, name: str, to: Path) -> str:
    assert settings.batch_input_dir is not None, "names are refused without a folder"
    await in_thread(copy, settings.batch_input_dir, name, to, settings.batch_upload_limit_bytes)
    return f"file {name}"


async def _bytes(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := await in_thread(file.read, PIECE):
            yield piece


async def _lines(file: BinaryIO) -> AsyncIterator[bytes]:
    with file, pq.ParquetFile(file) as parquet:
        batches = parquet.iter_batches(LINES)
        while (batch := await in_thread(next, batches, None)) is not None:
            yield await in_thread(b"".join, lines(batch))


def _submitting() -> dict[str, Any]:
    """The body and the query of `POST /batches`, which the route reads by itself."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = dict.fromkeys(TYPES, binary)
    content["application/json"] = {
        "schema": {"$ref": "#/components/schemas/BatchFile"},
        "example": {"file": "histories.parquet"},
    }
    properties = PredictOptions.model_json_schema()["properties"]
    query = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description"),
            "schema": _not_null(schema),
        }
        for name, schema in properties.items()
    ]
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "makes a repeated request harmless; as long as the batch is kept",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": [key, *query]}


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if kinds else {name: value for name, value in schema.items() if name != "title"}
