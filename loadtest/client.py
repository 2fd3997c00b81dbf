"""The service, over HTTP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from pydantic import ValidationError

from loadtest.answers import Ready
from loadtest.check import Checker, Verdict
from loadtest.generator import Reply
from loadtest.workload import Plan, Question

KEEP_ALIVE = 2.0
"""Seconds for which an idle connection is used again: less than servers keep theirs, so that none is lost to a race."""
JSON = "application/json"


class ServiceError(RuntimeError):
    """The service cannot be tested; the message says why and what to do."""


@asynccontextmanager
async def connect(
    url: str, api_key: str | None = None, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client without limits of its own: whatever would wait in it would hide the server's delay."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_ALIVE)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=None, transport=transport, trust_env=False
    ) as client:
        yield client


async def served_version(client: httpx.AsyncClient) -> str:
    """The version of the bundle that is served. Raises `ServiceError` where the service is not ready."""
    try:
        async with asyncio.timeout(30):
            response = await client.get("/readyz")
    except (httpx.HTTPError, TimeoutError) as error:
        raise ServiceError(
            f"{client.base_url}: no answer ({type(error).__name__}); is `hetlm serve` running there?"
        ) from None
    if response.status_code != 200:
        raise ServiceError(f"{client.base_url}readyz answered {response.status_code}: wait until the service is ready")
    try:
        return Ready.model_validate_json(response.content).bundle_version
    except ValidationError:
        raise ServiceError(f"{client.base_url}readyz does not answer as a hetlm service does") from None


class Asker:
    """Asks the questions of a plan, arrival by arrival."""

    def __init__(self, client: httpx.AsyncClient, plan: Plan, checker: Checker, *, timeout: float) -> None:
        self._client = client
        self._plan = plan
        self._checker = checker
        self._timeout = timeout
        self._run = f"load-{secrets.token_hex(4)}"

    async def __call__(self, place: int) -> Reply:
        patience = float(self._plan.patience[place])
        request_id = f"{self._run}-{place}"
        question = self._plan.question(place)
        return await ask(self._client, question, request_id, self._checker, timeout=self._timeout, patience=patience)


async def ask(
    client: httpx.AsyncClient,
    question: Question,
    request_id: str,
    checker: Checker,
    *,
    timeout: float,
    patience: float = float("inf"),
) -> Reply:
    """One `POST /predict`, its answer checked. `timeout`: seconds after which it counts as lost; `patience`: after
    which the caller leaves, as a browser does whose tab is closed."""
    headers = {"Content-Type": JSON, "X-Request-Id": request_id}
    try:
        async with asyncio.timeout(min(timeout, patience)):
            response = await client.post("/predict", content=question.body, headers=headers)
    except TimeoutError:
        if patience < timeout:
            return Reply("left", Verdict("left"))
        return Reply("timeout", Verdict("lost", f"no answer within {timeout:g} seconds"))
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        return Reply("unreachable", Verdict("unreachable", type(error).__name__))
    except httpx.TransportError as error:
        return Reply("broken", Verdict("lost", f"the connection broke ({type(error).__name__})"))
    status = response.status_code
    return Reply(str(status), checker.check(question, request_id, status, response.headers, response.content))
