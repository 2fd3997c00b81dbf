"""The body's limits: its size, counted as it arrives, its time, and its type. All of it before anything is parsed."""

from __future__ import annotations

import asyncio

from fastapi import Request

from service.problems import ProblemError


async def read_json(request: Request, limit: int, seconds: float) -> bytes:
    """The body, at most `limit` bytes, within `seconds`; with or without a Content-Length.

    Raises `ProblemError` (415, 413, 408, 400 for a malformed length), and `ClientDisconnect`.
    """
    _check_type(request)
    too_large = ProblemError(
        "body-too-large",
        f"At most {limit} bytes are read here: send fewer or shorter sessions, or fewer items.",
        headers={"Connection": "close"},  # what is still on its way is not worth reading
    )
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limit:
                    raise too_large
                body += chunk
    except TimeoutError:
        raise ProblemError(
            "body-timeout", f"The body did not arrive within {seconds:g} seconds.", headers={"Connection": "close"}
        ) from None
    return bytes(body)


def _check_type(request: Request) -> None:
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise ProblemError("not-json", "Content-Type must be application/json, in UTF-8.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError("not-json", "Content-Encoding must be absent: compressed bodies are not read.")
