"""The outermost layer of every request: its id, its count and time, its line in the log, and the last resort."""

from __future__ import annotations

import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from service.logs import described
from service.metrics import ROUTES, Metrics
from service.problems import ProblemError

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


_PROBES = frozenset(("/livez", "/readyz"))
"""Asked every few seconds by machines: their lines would bury the others."""


def request_id(given: str | None) -> str:
    """The caller's own id if it is a plain one, else a new one: it goes into the log and back into a header."""
    return given if given is not None and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class Observe:
    """An exception that no handler took becomes a 500 without details; the log has its type and place, no message."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self.app = app
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        own_id = request_id(headers[b"x-request-id"].decode("latin-1") if b"x-request-id" in headers else None)
        scope.setdefault("state", {})["request_id"] = own_id
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", own_id.encode())]
            await send(message)

        started = time.perf_counter()
        try:
            with self._metrics.in_flight.track_inprogress():
                try:
                    await self.app(scope, receive, send_named)
                except Exception as error:
                    self._log.error("request_failed", request_id=own_id, **described(error))
                    if status:  # half an answer is out: cutting the connection is the only honest end
                        raise _BrokenOff from None
                    problem = ProblemError("internal", "The service's operator finds the cause under the request id.")
                    await problem.response(own_id)(scope, receive, send_named)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", scope["path"])
            route = route if route in ROUTES else "other"  # a path that somebody made up may hold anything
            # 499: the caller left before there was an answer.
            self._metrics.request(route, status or 499, seconds)
            say = self._log.debug if route in _PROBES else self._log.info
            caller = {"caller": scope["state"]["caller"]} if "caller" in scope["state"] else {}
            say("request", request_id=own_id, route=route, status=status or 499, ms=round(seconds * 1000, 2), **caller)


class _BrokenOff(RuntimeError):
    """An answer that could not be finished; its cause is logged already."""
