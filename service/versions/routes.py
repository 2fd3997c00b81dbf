"""`/admin/bundles`, for the admin port."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError

from service.limits import read_json
from service.problems import ProblemError, invalid
from service.responses import json_response, problem_responses
from service.versions.documents import BundlesResponse, CanaryRequest, RolloutResponse
from service.versions.listing import listing, standing
from service.versions.rollout import Rollouts

BODY_LIMIT = 65_536
_WORDS = {
    400: "not JSON",
    404: "no such bundle",
    408: "the body took too long",
    409: "another rollout is under way, or this one cannot be",
    413: "the body is too large",
    415: "not declared as JSON",
    422: "a field is wrong; `errors` names it",
    500: "a step failed; `detail` says which and why. Everything is as it was",
    503: "the service is about to end: it takes no rollout, and gives up the one under way",
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return problem_responses({status: _WORDS[status] for status in statuses})


_SHARE: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": CanaryRequest.model_json_schema()}}}
}
"""The body of a canary, which the route reads by itself."""


def bundle_routes(rollouts: Rollouts, body_timeout: float) -> APIRouter:
    """`body_timeout`: seconds in which a body must arrive."""
    router = APIRouter()

    @router.get(
        "/admin/bundles",
        response_model=BundlesResponse,
        responses=_problems(500),
        summary="All versions, and which are served",
    )
    async def bundles() -> Response:
        try:
            return json_response(await listing(rollouts))
        except OSError as error:
            raise ProblemError("internal", f"The bundles' folder cannot be read: {error.strerror}.") from None

    @router.post(
        "/admin/bundles/{version}/activate",
        response_model=RolloutResponse,
        responses=_problems(404, 409, 422, 500, 503),
        summary="Serve another version",
    )
    async def activate(version: str) -> Response:
        """Loads, verifies, starts and warms it beside the one that is served, lets it take over at once, and stops the
        other when its requests are answered; then answers. To roll back, activate the older one. `version`: the
        folder's name, or 12 or more characters of the hash."""
        return json_response(standing(rollouts, await rollouts.activate(version)))

    @router.post(
        "/admin/bundles/{version}/canary",
        response_model=RolloutResponse,
        responses=_problems(400, 404, 408, 409, 413, 415, 422, 500, 503),
        openapi_extra=_SHARE,
        summary="Try a version out",
    )
    async def canary(version: str, request: Request) -> Response:
        """It answers a share of the users, always the same ones, beside the version that is served; 0 ends it."""
        body = await read_json(request, BODY_LIMIT, body_timeout)
        try:
            asked = CanaryRequest.model_validate_json(body)
        except ValidationError as error:
            raise invalid(error) from None
        return json_response(standing(rollouts, await rollouts.canary(version, asked.share)))

    return router
