"""The connection: what it sends, and what it does not take for an answer."""

from __future__ import annotations

import asyncio

import pytest

from loadtest.bench.errors import BenchError
from loadtest.bench.wire import Reply, Wire


async def exchange(answers: list[bytes]) -> tuple[list[Reply], list[bytes]]:
    """Post as often as there are answers, over one connection; the server ends it after the last."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            heard.append(head + await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])))
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    wire = await Wire.open(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        return [await wire.post("/predict", b"{}", "X-Request-Id: 7\r\n") for _ in answers], heard
    finally:
        await wire.close()
        server.close()
        await server.wait_closed()


def test_a_connection_is_kept() -> None:
    answers = [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", b"HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nnow"]
    replies, heard = asyncio.run(exchange(answers))
    assert replies == [Reply(200, b"{}"), Reply(503, b"now")]
    assert heard[0].startswith(b"POST /predict HTTP/1.1\r\n")
    assert b"X-Request-Id: 7\r\n" in heard[0]
    assert heard[0].endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\ntoo short",
        b"nonsense",
    ],
)
def test_a_broken_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(BenchError, match="a broken answer"):
        asyncio.run(exchange([answer]))


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(BenchError, match="no connection"):
        asyncio.run(Wire.open("http://127.0.0.1:1"))
