"""A connection that does as little as HTTP/1.1 allows.

The generator shares its cores with what it measures. A general client spends about a millisecond of CPU per request,
which at a hundred requests per second is a tenth of a core taken from the server; this spends a tenth of that. It knows
what its peers send (a length, no chunks) and refuses the rest.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from loadtest.bench.errors import BenchError

HEAD_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    content: bytes


class Wire:
    """One request at a time, the connection kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    @classmethod
    async def open(cls, url: str) -> Self:
        """Raises `BenchError` where nobody answers."""
        parts = urlsplit(url)
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=HEAD_LIMIT)
        except OSError as error:
            raise BenchError(f"{url}: no connection ({type(error).__name__})") from None
        return cls(reader, writer, parts.netloc)

    async def post(self, path: str, body: bytes, headers: str = "") -> Reply:
        """`headers`: further ones, each line ended by CR LF. Raises `BenchError` for a broken answer."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{headers}\r\n"
        )
        try:
            self._writer.write(head.encode() + body)
            await self._writer.drain()
            answer = await self._reader.readuntil(b"\r\n\r\n")
            return Reply(int(answer[9:12]), await self._reader.readexactly(_length(answer)))
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise BenchError(f"{self._host}: a broken answer ({type(error).__name__})") from None

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # the other side was faster


def _length(head: bytes) -> int:
    """Raises `ValueError` where the head names none."""
    _, _, after = head.lower().partition(b"\r\ncontent-length:")
    return int(after.partition(b"\r\n")[0])
