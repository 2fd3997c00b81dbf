"""The addresses below `/batches`."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from service.jobs.documents import BatchesQuery, BatchesResponse, BatchFile, BatchJobResponse
from service.jobs.jobs import Jobs
from service.jobs.uploads import PIECE, TYPES, named, upload
from service.limits import read_json
from service.problems import ProblemError, invalid, invalid_query
from service.responses import NO_STORE, json_response, problem_responses
from service.schemas import PredictOptions
from service.scoring.parts import LINES
from service.scoring.results import lines
from service.scoring.threads import in_thread
from service.settings import Settings

NDJSON = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
NAMED_FILE_BYTES = 16_384
_KEY = re.compile(r"[!-~]{1,128}")
_PROBLEM = problem_responses({"default": "a problem"})


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
        Parquet in the columns that `hetlm ingest` writes. A row that is wrong, or larger than a body of `POST /predict`
        may be, comes back with its problem; a file with more rows or bytes than the service takes fails as a whole.
        Options in the query are for rows that have none. As JSON the body names a file in the service's own folder; its
        options come before the query's. A repeated request with the same `Idempotency-Key` gets the batch that the
        first one made, as long as the file is the same."""
        key = request.headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise ProblemError("invalid-request", "Idempotency-Key must have 1 to 128 visible ASCII characters.")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            queried, (folder, asked) = _options(request), await _named(request, settings)
            options = asked.options if "options" in asked.model_fields_set else queried
            take = partial(named, folder, asked.file, limit=settings.batch_upload_limit_bytes)
            made, new = await jobs.submit(_caller(request), key, options, take, asked.file)
        else:
            limit, patience = settings.batch_upload_limit_bytes, settings.body_timeout_seconds
            taken = partial(upload, request, limit=limit, patience=patience)
            made, new = await jobs.submit(_caller(request), key, _options(request), taken)
        return json_response(made, 202 if new else 200, {"Location": f"/batches/{made.id}"})

    @router.get(
        "/batches",
        response_model=BatchesResponse,
        responses=_PROBLEM,
        openapi_extra={"parameters": query_parameters(BatchesQuery)},
        summary="One's own batches",
    )
    async def listed(request: Request) -> Response:
        """The newest first, 100 at most; `next` leads to older ones, also where batches come and go meanwhile."""
        try:
            asked = BatchesQuery.model_validate_strings(dict(request.query_params))
        except ValidationError as error:
            raise invalid_query(error) from None
        return json_response(await jobs.list(_caller(request), asked))

    @router.get(
        "/batches/{batch_id}", response_model=BatchJobResponse, responses=_PROBLEM, summary="How far a batch is"
    )
    async def found(request: Request, batch_id: str) -> Response:
        return json_response(await jobs.find(_caller(request), batch_id))

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
            return _Streamed(file, _lines(file), NDJSON, {})
        headers = {
            "Content-Length": str(os.fstat(file.fileno()).st_size),
            "Content-Disposition": 'attachment; filename="scored.parquet"',
        }
        return _Streamed(file, _bytes(file), PARQUET, headers)

    @router.delete("/batches/{batch_id}", response_model=BatchJobResponse, responses=_PROBLEM, summary="Delete a batch")
    async def deleted(request: Request, batch_id: str) -> Response:
        """Stops it if it is under way, and deletes input and result at once; what it was comes back."""
        return json_response(await jobs.delete(_caller(request), batch_id))

    return router


def _caller(request: Request) -> str:
    """The name of the API key; everybody is one where there are no keys."""
    return str(getattr(request.state, "caller", "local"))


def _options(request: Request) -> PredictOptions:
    given = dict(request.query_params)
    try:
        return PredictOptions.model_validate_strings(given, strict=False)
    except ValidationError as error:
        raise invalid_query(error) from None


async def _named(request: Request, settings: Settings) -> tuple[Path, BatchFile]:
    """The folder, and what is asked for of it."""
    if settings.batch_input_dir is None:
        raise ProblemError("not-a-file", "Files cannot be named here (HETLM_BATCH_INPUT_DIR is not set): upload them.")
    body = await read_json(request, NAMED_FILE_BYTES, settings.body_timeout_seconds)
    try:
        return settings.batch_input_dir, BatchFile.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None


class _Streamed(StreamingResponse):
    """Closes `file` at the end, also where nobody listens to the end, or from the beginning."""

    def __init__(self, file: BinaryIO, pieces: AsyncGenerator[bytes], kind: str, headers: dict[str, str]) -> None:
        super().__init__(pieces, media_type=kind, headers={**NO_STORE, **headers})
        self._file = file
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._pieces):
                await super().__call__(scope, receive, send)
        finally:
            self._file.close()


async def _bytes(file: BinaryIO) -> AsyncGenerator[bytes]:
    while piece := await in_thread(file.read, PIECE):
        yield piece


async def _lines(file: BinaryIO) -> AsyncGenerator[bytes]:
    with await in_thread(pq.ParquetFile, file) as parquet:
        batches = parquet.iter_batches(LINES)
        while (batch := await in_thread(next, batches, None)) is not None:
            yield await in_thread(b"".join, lines(batch))


def _submitting() -> dict[str, Any]:
    """The body and the query of `POST /batches`, which the route reads by itself."""
    binary = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
    content: dict[str, Any] = dict.fromkeys(TYPES, binary)
    content["application/json"] = {
        "schema": {"$ref": "#/components/schemas/BatchFile"},
        "example": {"file": "histories.parquet"},
    }
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "makes a repeated request harmless; as long as the batch is kept",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    }
    return {
        "requestBody": {"required": True, "content": content},
        "parameters": [key, *query_parameters(PredictOptions)],
    }


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The parameters of a query that a route reads by itself."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description"),
            "schema": _not_null(schema),
        }
        for name, schema in model.model_json_schema()["properties"].items()
    ]


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if kinds else {name: value for name, value in schema.items() if name != "title"}
