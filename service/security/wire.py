"""The head of an HTTP request, bounded: uvicorn's parser would collect headers for as long as they come."""

from __future__ import annotations

import asyncio

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

HEAD_BYTES = 65_536
"""Address and headers of a request together; the same for what may stand between two pieces of its body."""
HEAD_SECONDS = 10.0
"""How long they may take, from their first byte on: a connection that says nothing, or next to nothing, does not stay
open. Whatever comes between two requests counts: an empty line, or a body that nobody reads."""


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol, with both limits. Memory per connection is bounded by them, before any key is looked at."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head = 0
        self._in_body = False
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        if not self._in_body or self.cycle.response_complete:  # uvicorn ends its own limit, of silence, with any byte
            self._wait()
        super().data_received(data)  # what of it was a body's sets the count back
        if self._head > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        self._arrived()
        self._in_body = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head = 0
        self._in_body = False
        super().on_message_complete()

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _arrived(self) -> None:
        self._head = 0
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait()  # whatever came since, the answer to the request before it is still due
        elif not self.transport.is_closing():
            self.transport.close()
