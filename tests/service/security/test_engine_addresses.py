"""Histories go to the engines that the settings name, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from browsing.bundle import Bundle
from browsing.engine import EngineError
from service.engines.server import new_client
from service.engines.vllm_server import VllmServerEngine
from tests.service.building import SESSIONS, running
from tests.service.engines.test_vllm_server import REQUEST, VOCABULARY, Fake, serving


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An address, and whatever anybody says to it."""
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65_536))
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    finally:
        server.close()
        await server.wait_closed()


def redirect(status: int, where: str) -> bytes:
    return f"HTTP/1.1 {status} X\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_is_not_followed(status: int) -> None:
    async def scenario() -> None:
        async with listening() as (elsewhere, heard), serving(Fake()) as fake:
            engine = VllmServerEngine([fake.url], VOCABULARY, models=["cluster-0"], start_timeout=2.0)
            await engine.start()
            try:

                async def away(_: object) -> bytes:
                    return redirect(status, f"{elsewhere}/v1/completions")

                fake.reply = away
                with pytest.raises(EngineError, match=f"status {status}"):
                    await engine.generate(REQUEST)
                assert await engine.healthy() == {0: False}
            finally:
                await engine.stop()
            fake.models = redirect(status, f"{elsewhere}/v1/models")
            with pytest.raises(EngineError, match=f"status {status}"):
                await VllmServerEngine([fake.url], VOCABULARY, start_timeout=2.0).start()
            assert heard == []

    asyncio.run(scenario())


def test_no_proxy_of_the_environment_hears_a_history(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with listening() as (proxy, heard), serving(Fake()) as fake:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
                monkeypatch.setenv(name, proxy)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            engine = VllmServerEngine([fake.url], VOCABULARY, models=["cluster-0"], start_timeout=2.0)
            await engine.start()
            assert await engine.generate(REQUEST)
            await engine.stop()
            assert heard == []

    asyncio.run(scenario())


def test_the_client_follows_and_trusts_nothing() -> None:
    async def scenario() -> None:
        async with new_client() as client:
            assert not client.follow_redirects
            assert not client.trust_env

    asyncio.run(scenario())


@pytest.mark.parametrize("member", ["engine", "engine_url", "engine_urls", "url", "base_url", "model", "bundle"])
def test_no_request_can_name_an_engine(bundle: Bundle, member: str) -> None:
    async def scenario() -> None:
        async with listening() as (address, heard), running(bundle) as made:
            for body in (
                {"sessions": SESSIONS, member: address},
                {"sessions": SESSIONS, "options": {member: address}},
            ):
                response = await made.predict(body)
                assert response.status_code == 422
                assert address not in response.text
            await made.predict({"events": [{"time": "2026-11-01T10:00:00Z", "url": f"{address}/bags"}]})
            assert heard == [], "the URL of an event is a name, and is not visited"

    asyncio.run(scenario())
