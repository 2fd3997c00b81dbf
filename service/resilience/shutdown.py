"""The end of a service that others rely on: announced, waited for, and honest to whoever is still waiting then."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import ProblemError


class Shutdown:
    """What signals do. The first: `announce`, and after `lame_duck` seconds, in which new requests are still taken,
    `close`. The second: `force`, at once. Ctrl-C skips the lame duck: there is no load balancer at a terminal."""

    def __init__(
        self,
        lame_duck: float,
        announce: Callable[[], None],
        close: Callable[[], None],
        force: Callable[[], None],
    ) -> None:
        self._lame_duck = lame_duck
        self._announce = announce
        self._close = close
        self._force = force
        self._timer: asyncio.TimerHandle | None = None
        self.leaving = False

    def on_signal(self, number: signal.Signals) -> None:
        if self.leaving:
            self.cancel()
            self._force()
            return
        self.leaving = True
        self._announce()
        if number == signal.SIGTERM and self._lame_duck > 0:
            self._timer = asyncio.get_running_loop().call_later(self._lame_duck, self._close)
        else:
            self._close()

    def cancel(self) -> None:
        """Forget what is still to come."""
        if self._timer is not None:
            self._timer.cancel()


class Draining:
    """Around the application. While `leaving`, every answer ends its connection, so that what comes next goes
    elsewhere: a connection that is kept open would be cut, perhaps with a request on its way. Who has no answer when
    the time for finishing is over is told so."""

    def __init__(self, app: ASGIApp, leaving: Callable[[], bool]) -> None:
        self.app = app
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_last(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self._leaving():
                    message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        try:
            await self.app(scope, receive, send_last)
        except asyncio.CancelledError:
            if started or not self._leaving():
                raise
            problem = ProblemError(
                "not-ready", "The service stopped before there was an answer.", headers={"Retry-After": "2"}
            )
            await problem.response(None)(scope, receive, send_last)
