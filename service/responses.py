"""What the routes answer with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi.responses import Response
from pydantic import BaseModel

from service.problems import MEDIA_TYPE

Status = TypeVar("Status", int, str)

NO_STORE = {"Cache-Control": "no-store"}
"""Answers are about people: no cache on the way may keep them."""


def json_response(document: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(document.model_dump_json(), status, {**NO_STORE, **(headers or {})}, "application/json")


def problem_responses(words: Mapping[Status, str]) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: what a problem of each status means."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": said, "content": {MEDIA_TYPE: {"schema": schema}}} for status, said in words.items()
    }
