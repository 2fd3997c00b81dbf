"""Errors as RFC 9457 problem documents: they name the field and the remedy, and never repeat what was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 10
"""Fields named in one document; ten thousand wrong pages are one mistake."""
_KNOWN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class FieldError(BaseModel):
    """One field that is wrong."""

    model_config = ConfigDict(frozen=True)

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request's body; empty for the whole body")
    detail: str = Field(description="what it must be")


class Problem(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="identifies the kind of problem")
    title: str = Field(description="the kind in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what is wrong here and what to do")
    errors: tuple[FieldError, ...] = Field(default=(), description="the fields that are wrong, at most ten")
    request_id: str | None = Field(default=None, description="for the operator: stands in the log too")


TITLES = {
    "broken-json": (400, "The body is not JSON"),
    "disconnected": (400, "The body ended early"),
    "unauthorized": (401, "An API key is needed"),
    "forbidden": (403, "The API key does not open this"),
    "not-found": (404, "No such address"),
    "no-such-batch": (404, "No such batch"),
    "no-such-bundle": (404, "No such bundle"),
    "no-such-file": (404, "No such file"),
    "method-not-allowed": (405, "No such method here"),
    "body-timeout": (408, "The body took too long"),
    "not-done": (409, "The batch is not done"),
    "rollout-conflict": (409, "No such rollout now"),
    "versions-changed": (409, "The bundle was exchanged too often"),
    "key-reused": (409, "The idempotency key stands for another request"),
    "batch-overdue": (410, "The batch was not done in time"),
    "body-too-large": (413, "The body is too large"),
    "file-too-large": (413, "The file is beyond a limit"),
    "row-too-large": (413, "The row is too large"),
    "not-json": (415, "The body must be JSON"),
    "not-a-file": (415, "The body must be a file of histories"),
    "misdirected": (421, "Not under this name"),
    "invalid-request": (422, "The request is not valid"),
    "broken-file": (422, "The file cannot be read"),
    "no-history": (422, "The visitor has no history"),
    "too-many-batches": (429, "Too many batches are unfinished"),
    "too-many-requests": (429, "Too many requests"),
    "overloaded": (429, "The service is overloaded"),
    "client-closed-request": (499, "The caller has left"),
    "http": (400, "The request was refused"),
    "internal": (500, "The service failed"),
    "rollout-failed": (500, "The bundle could not be taken into service"),
    "engine-down": (503, "No engine answered"),
    "not-ready": (503, "The service is not ready"),
    "disk-full": (507, "The disk is full"),
}


class ProblemError(Exception):
    """Raised anywhere below a route, becomes the response."""

    def __init__(
        self,
        kind: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        default, self.title = TITLES[kind]
        self.kind = kind
        self.status = status or default
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        super().__init__(kind)

    def document(self, request_id: str | None) -> Problem:
        return Problem(
            type=f"urn:hetlm:problem:{self.kind}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            errors=self.errors,
            request_id=request_id,
        )

    def response(self, request_id: str | None) -> Response:
        body = self.document(request_id).model_dump_json(exclude_none=True)
        return Response(body, self.status, {**self.headers, "Cache-Control": "no-store"}, MEDIA_TYPE)


def invalid(error: ValidationError, prefix: str = "") -> ProblemError:
    """What pydantic found, as a problem. `prefix`: the pointer of the part that was validated."""
    found = error.errors(include_url=False, include_input=False)
    if found and found[0]["type"] == "json_invalid":
        where = str(found[0].get("ctx", {}).get("error", ""))
        return ProblemError("broken-json", f"The body cannot be read as JSON: {where}.")
    errors = [_field_error(entry, prefix) for entry in found[:MAX_ERRORS]]
    more = f" ({len(found) - MAX_ERRORS} more are not listed)" if len(found) > MAX_ERRORS else ""
    first = errors[0]
    at = f"{first.pointer}: " if first.pointer else ""
    return ProblemError("invalid-request", f"{at}{first.detail}{more}", errors)


def invalid_query(error: ValidationError) -> ProblemError:
    """What pydantic found in a query's parameters, which have no place in a body to point at."""
    errors = [FieldError(pointer="", detail=f"{e.pointer[1:]} in the query {e.detail}") for e in invalid(error).errors]
    return ProblemError("invalid-request", errors[0].detail, errors)


def _field_error(entry: Any, prefix: str) -> FieldError:
    context: dict[str, Any] = entry.get("ctx") or {}
    pointer = prefix + "".join(f"/{_name(part)}" for part in entry["loc"]) + str(context.get("pointer", ""))
    return FieldError(pointer=pointer, detail=_detail(entry["type"], context, entry["msg"]))


def _name(part: int | str) -> str:
    """A member's name; one that the client made up is repeated only if it looks like a name."""
    return str(part) if isinstance(part, int) or _KNOWN_NAME.fullmatch(part) else "(unnamed)"


def _detail(kind: str, context: Mapping[str, Any], message: str) -> str:
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not known here: leave it out"
        case "too_long":
            return f"must have at most {context['max_length']} items: keep the newest"
        case "too_short":
            return f"must have at least {context['min_length']} item: leave empty ones out"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "string_too_short":
            return "must not be empty"
        case "greater_than_equal" | "less_than_equal" | "finite_number":
            low_or_high = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le")}
            if kind in low_or_high:
                words, key = low_or_high[kind]
                return f"must be {words} {context[key]}"
            return "must be a finite number"
        case "literal_error":
            return f"must be {context['expected']}"
        case "timezone_aware":
            return "must name its time zone, as in 2026-11-01T10:00:00Z"
        case _ if kind.startswith("datetime"):
            return "must be a time in ISO 8601 with its time zone, as in 2026-11-01T10:00:00Z"
        case "string_type" | "int_type" | "int_from_float" | "int_parsing" | "bool_type" | "list_type":
            nouns = {"string": "a string", "int": "a whole number", "bool": "true or false", "list": "an array"}
            return f"must be {nouns[kind.split('_')[0]]}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be an object"
        case _:
            return message[:1].lower() + message[1:]


def request_id_of(request: Request) -> str | None:
    value = request.scope.get("state", {}).get("request_id")
    return value if isinstance(value, str) else None


def _with_methods(request: Request, error: HTTPException) -> Mapping[str, str]:
    """`Allow` with all methods of the address (RFC 9110, 10.2.1): the router names those of its first route alone."""
    matching = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in matching for method in getattr(route, "methods", None) or ()}
    return {**(error.headers or {}), "Allow": ", ".join(sorted(methods))}


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document. (An exception that is none of these is the middleware's.)"""

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return error.response(request_id_of(request))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http")
        details = {404: "See /openapi.json for the addresses.", 405: "See /openapi.json for the methods."}
        problem = ProblemError(
            kind,
            details.get(error.status_code, "See /openapi.json for what is accepted."),
            status=error.status_code,
            headers=_with_methods(request, error) if kind == "method-not-allowed" else error.headers,
        )
        return problem.response(request_id_of(request))

    async def on_disconnect(request: Request, _: Exception) -> Response:
        return ProblemError("disconnected", "The connection closed before the body ended.").response(
            request_id_of(request)
        )

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
