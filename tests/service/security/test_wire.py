"""Over real sockets: the three ports, and what a stranger sends before anything of it is a request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from browsing.bundle import Bundle
from service.security import wire
from service.security.wire import HEAD_BYTES
from service.serve import Sockets, bind
from service.settings import Settings
from tests.service.building import SESSIONS, SlowEngine, tables
from tests.service.security.keyed import bearer, keys
from tests.service.security.serving import served


async def say(sockets: Sockets, *pieces: bytes, repeat: int = 1) -> bytes:
    """Send the first piece, then the others `repeat` times; everything that comes back until the connection closes."""
    return await asyncio.to_thread(_say, sockets.api.getsockname()[:2], pieces, repeat)


def _say(address: tuple[str, int], pieces: tuple[bytes, ...], repeat: int) -> bytes:
    """Over a plain socket, which still gives what arrived before the other end hung up on what was sent."""
    answer = b""
    with socket.create_connection(address, timeout=60) as own:
        with contextlib.suppress(ConnectionError):
            own.sendall(pieces[0] + b"".join(pieces[1:]) * repeat)
        with contextlib.suppress(ConnectionError):
            while chunk := own.recv(65_536):
                answer += chunk
    return answer


def test_three_ports(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    predict, admin = keys(path, ("shop", ("predict",)), ("boss", ("admin",)))

    async def scenario() -> None:
        async with (
            served(bundle, api_keys_file=path, host="0.0.0.0", admin_port=0) as sockets,
            httpx.AsyncClient() as client,
        ):
            assert sockets.admin_url is not None
            body = {"sessions": SESSIONS}
            assert (await client.post(sockets.api_url + "/predict", json=body)).status_code == 401
            answer = await client.post(sockets.api_url + "/predict", json=body, headers=bearer(predict))
            assert (answer.status_code, answer.json()["fallback"]) == (200, None)
            assert (await client.get(sockets.admin_url + "/keys", headers=bearer(predict))).status_code == 403
            assert (await client.get(sockets.admin_url + "/keys", headers=bearer(admin))).status_code == 200
            assert (await client.get(sockets.metrics_url)).text.startswith("# HELP hetlm_")
            assert (await client.get(sockets.api_url + "/admin/keys", headers=bearer(admin))).status_code == 404

    asyncio.run(scenario())


def test_without_an_admin_key_there_is_no_admin_port(bundle: Bundle, tmp_path: Path) -> None:
    keys(tmp_path / "keys.json", ("shop", ("predict",)))

    async def scenario() -> None:
        async with served(bundle, api_keys_file=tmp_path / "keys.json") as sockets:
            assert sockets.admin is None
        async with served(bundle) as sockets:
            assert sockets.admin is None

    asyncio.run(scenario())


def test_a_taken_admin_port_is_named_and_nothing_stays_open(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with served(bundle) as sockets:
            taken = sockets.api.getsockname()[1]
            with pytest.raises(OSError, match="in use") as caught:
                bind(Settings(port=0, metrics_port=0, admin_port=taken))
            assert caught.value.filename.startswith("--admin-port")

    asyncio.run(scenario())


HEADS = {
    "many headers": (b"GET /livez HTTP/1.1\r\n", b"X-A: " + b"a" * 1_000 + b"\r\n"),
    "one header without end": (b"GET /livez HTTP/1.1\r\nX-A: ", b"a" * 1_000),
    "an address without end": (b"GET /", b"a" * 1_000),
    "the trailers of a body": (
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n0\r\n",
        b"X-A: " + b"a" * 1_000 + b"\r\n",
    ),
    "a chunk's extension": (
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1;a=",
        b"a" * 1_000,
    ),
}


@pytest.mark.parametrize(("begin", "more"), HEADS.values(), ids=HEADS)
def test_a_head_without_end_is_cut_off(bundle: Bundle, begin: bytes, more: bytes) -> None:
    async def scenario() -> None:
        async with served(bundle) as sockets:
            answer = await say(sockets, begin, more, repeat=1_000)
            assert b"HTTP/1.1 400 " in answer
            assert b"head is too large" in answer
            assert b"aaaa" not in answer

    asyncio.run(scenario())


def test_a_head_of_just_the_limit_is_read(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with served(bundle) as sockets:
            head = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-A: "
            fits = head + b"a" * (HEAD_BYTES - len(head) - 4)
            assert (await say(sockets, fits, b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert b" 200 " not in await say(sockets, fits + b"a" * 300_000, b"\r\n\r\n")

    asyncio.run(scenario())


def test_a_long_body_in_small_pieces_is_no_head(bundle: Bundle) -> None:
    async def scenario() -> None:
        async with served(bundle) as sockets, httpx.AsyncClient() as client:

            async def pieces() -> AsyncIterator[bytes]:
                yield b'{"sessions": []'
                for _ in range(300):
                    yield b" " * 1_000
                yield b"}"

            for _ in range(2):  # over one connection
                response = await client.post(
                    sockets.api_url + "/predict", content=pieces(), headers={"Content-Type": "application/json"}
                )
                assert response.status_code == 200

    asyncio.run(scenario())


def test_who_says_nothing_is_not_waited_for(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)

    async def scenario() -> None:
        async with served(bundle) as sockets:
            assert await say(sockets, b"") == b""
            assert await say(sockets, b"GET /livez HTTP/1.1\r\nHost: a\r\n") == b""
            second = await say(sockets, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTTP/1.1\r\n")
            assert second.count(b"HTTP/1.1 200 ") == 1

    asyncio.run(scenario())


ASK = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
UNREAD = b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
"""Answered with 404 before anything of its body has come."""


def whole(answer: bytes) -> bool:
    head, ended, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
    return bool(ended) and length is not None and len(body) == int(length[1])


@pytest.mark.parametrize("trickle", [False, True], ids=["once", "again and again"])
@pytest.mark.parametrize(
    ("asked", "stray"),
    [
        (ASK, b"\n"),
        (ASK, b"\r\n"),
        (ASK, b"G"),
        (UNREAD, b"a"),
        (UNREAD.replace(b"3", b"3000"), b"a"),
        (UNREAD, b"abc"),
    ],
    ids=["newline", "empty line", "letter", "unread body", "endless unread body", "unread body, whole"],
)
def test_after_an_answer_stray_bytes_do_not_keep_a_connection(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, asked: bytes, stray: bytes, trickle: bool
) -> None:
    """The limit counts from the first of them."""
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)

    def talk(address: tuple[str, int]) -> int:
        with socket.create_connection(address, timeout=30) as own:
            own.sendall(asked)
            answer = b""
            while not whole(answer):
                more = own.recv(65_536)
                assert more, answer
                answer += more
            own.settimeout(0.05)
            for sent in range(200):
                try:
                    if trickle or not sent:
                        own.sendall(stray[: 1 if trickle else None])
                    if own.recv(65_536) == b"":
                        return sent
                except TimeoutError:
                    continue
                except ConnectionError:
                    return sent
        raise AssertionError("still open")

    async def scenario() -> None:
        async with served(bundle) as sockets:
            assert await asyncio.to_thread(talk, sockets.api.getsockname()[:2]) > 0

    asyncio.run(scenario())


def test_stray_bytes_cost_nobody_the_answer_that_is_being_made(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.1)
    body = json.dumps({"sessions": SESSIONS}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

    async def scenario() -> None:
        engine = SlowEngine(tables(len(bundle.vocabulary), bundle.clusters), 0.0)
        async with served(bundle, engine=engine) as sockets:
            engine.seconds = 0.5
            answer = await say(sockets, head % len(body) + body, b"\r\nGET /li")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.count(b"HTTP/1.1 ") == 1
            assert b'"next_session"' in answer

    asyncio.run(scenario())


def test_a_slow_body_has_its_own_time(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)

    async def scenario() -> None:
        async with served(bundle) as sockets, httpx.AsyncClient() as client:

            async def pieces() -> AsyncIterator[bytes]:
                for piece in (b'{"sessions"', b": ", b"[]}"):
                    yield piece
                    await asyncio.sleep(0.3)

            response = await client.post(
                sockets.api_url + "/predict", content=pieces(), headers={"Content-Type": "application/json"}
            )
            assert response.status_code == 200

    asyncio.run(scenario())


def test_no_websocket(bundle: Bundle) -> None:
    upgrade = (
        b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def scenario() -> None:
        async with served(bundle) as sockets:
            assert b" 101 " not in (await say(sockets, upgrade)).split(b"\r\n")[0]

    asyncio.run(scenario())
