"""What the routes answer with."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import Response
from pydantic import BaseModel

NO_STORE = {"Cache-Control": "no-store"}
"""Answers are about people: no cache on the way may keep them."""


def json_response(document: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(document.model_dump_json(), status, {**NO_STORE, **(headers or {})}, "application/json")
