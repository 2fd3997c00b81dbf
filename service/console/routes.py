"""The console's addresses: its files, which anybody may load, and what it reads, which takes the scope `predict`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError

from browsing.bundle import Bundle
from service.console.documents import BundleResponse, PagesQuery, PagesResponse
from service.console.files import CONSOLE_HEADERS, INDEX, REPORT_HEADERS, TYPES, load
from service.console.showcase import Showcases
from service.problems import ProblemError, invalid_query
from service.responses import json_response, problem_responses


def console_routes(current: Callable[[], Bundle]) -> APIRouter:
    """`current`: the bundle that is served now."""
    router = APIRouter()
    showcases = Showcases(current)
    files = load()

    @router.get("/", include_in_schema=False)
    async def index() -> Response:
        return _file(INDEX)

    @router.get("/console/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        return _file(name)

    def _file(name: str) -> Response:
        if name not in files:
            raise ProblemError("not-found", "The console has no such file.")
        content, media_type = files[name]
        return Response(content, headers={**CONSOLE_HEADERS, "Content-Type": media_type})

    @router.get(
        "/pages",
        response_model=PagesResponse,
        responses=problem_responses({422: "a parameter is wrong; `errors` names it"}),
        openapi_extra={"parameters": _query()},
        summary="Known pages that go with what was typed",
    )
    async def pages(request: Request) -> Response:
        """Completion over the bundle's vocabulary, which holds no page that fewer than a handful of users saw."""
        try:
            asked = PagesQuery.model_validate_strings(dict(request.query_params))
        except ValidationError as error:
            raise invalid_query(error) from None
        return json_response(PagesResponse(pages=showcases.now().completion.find(asked.prefix, asked.limit)))

    @router.get("/bundle", response_model=BundleResponse, summary="The model that answers, and histories to try")
    async def bundle() -> Response:
        """Aggregates of the training log, and examples of generated sessions."""
        return json_response(showcases.now().document)

    @router.get(
        "/report",
        response_class=Response,
        responses={
            200: {"description": "the bundle's report", "content": {TYPES[".html"]: {"schema": {"type": "string"}}}},
            **problem_responses({404: "the bundle has no report"}),
        },
        summary="The report that came with the bundle",
    )
    async def report() -> Response:
        content = showcases.now().report
        if content is None:
            raise ProblemError("not-found", "This bundle has no report: `hetlm report` makes one.")
        return Response(content, headers={**REPORT_HEADERS, "Content-Type": TYPES[".html"]})

    return router


def _query() -> list[dict[str, Any]]:
    """The parameters of `GET /pages`, which the route reads by itself: its errors are problem documents."""
    properties = PagesQuery.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema["description"],
            "schema": {word: value for word, value in schema.items() if word not in ("title", "description")},
        }
        for name, schema in properties.items()
    ]
