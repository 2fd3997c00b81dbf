"""The headers that belong on every answer."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS = ((b"x-content-type-options", b"nosniff"),)
"""No browser takes a page name for HTML because it looks like it."""
UNLESS_SET = ((b"cache-control", b"no-store"),)
"""Answers are about people, or hold for a moment; a route that knows better says so itself."""


class Headers:
    """Adds them to whatever passes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
                there = {name.lower() for name, _ in headers}
                always = {name for name, _ in ALWAYS}
                kept = [(name, value) for name, value in headers if name.lower() not in always]
                message["headers"] = [*kept, *ALWAYS, *(pair for pair in UNLESS_SET if pair[0] not in there)]
            await send(message)

        await self.app(scope, receive, send_with_headers)
