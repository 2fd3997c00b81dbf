"""A real Redis that fails in every way: it costs time, never an answer, and is used again when it is well."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from browsing.bundle import Bundle
from service.app import choose_store
from service.cache.redis import PREFIX
from service.settings import Settings
from tests.service.faults.serving import Served, serving
from tests.service.faults.traffic import Fakes, Visitor, drive, tables
from tests.service.redis_server import RedisServer


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.remove()


def settings(url: str, timeout_ms: int = 1_000) -> dict[str, object]:
    return {
        "redis_url": url,
        "cache_secret": "a secret of a deployment",
        "redis_timeout_ms": timeout_ms,
        "redis_back_off_seconds": 0.05,
    }


async def through(
    bundle: Bundle, url: str, scenario: Callable[[Served], Awaitable[None]], timeout_ms: int = 1_000
) -> None:
    own = settings(url, timeout_ms)
    store = choose_store(Settings.model_validate(own))
    async with serving(bundle, Fakes(tables(bundle)), store=store, settings=own) as served:
        await scenario(served)


async def cached(served: Served, people: list[Visitor]) -> bool:
    """Whether all of one visitor's sessions come from the cache."""
    answer = (await served.client.post("/predict", json=people[0].body())).json()
    return bool(answer["embedding"]["cached"] == answer["embedding"]["sessions"])


async def is_used_again(served: Served, people: list[Visitor]) -> None:
    for _ in range(200):
        if await cached(served, people):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the cache is never used again")


async def all_from_the_model(served: Served, people: list[Visitor], rounds: int = 2) -> None:
    assert set((await drive(served.client, people, rounds=rounds)).kinds) == {"model"}


def test_absent_and_there_later(bundle: Bundle, people: list[Visitor], tmp_path: Path) -> None:
    server = RedisServer(tmp_path)

    async def scenario(served: Served) -> None:
        await all_from_the_model(served, people)
        assert await served.metric("hetlm_cache_errors_total", "get", "down") > 0
        await asyncio.to_thread(server.start)
        await is_used_again(served, people)

    try:
        asyncio.run(through(bundle, server.url, scenario))
    finally:
        server.remove()


def test_gone_in_the_middle_and_back(bundle: Bundle, people: list[Visitor], redis: RedisServer) -> None:
    async def scenario(served: Served) -> None:
        await is_used_again(served, people)
        killed = asyncio.Event()

        async def kill() -> None:
            await asyncio.sleep(0.2)
            redis.kill()
            await asyncio.sleep(0.2)
            killed.set()

        killing = asyncio.create_task(kill())
        account = await drive(served.client, people, until=killed.is_set)
        await killing
        assert set(account.kinds) == {"model"}
        await all_from_the_model(served, people)
        await asyncio.to_thread(redis.start)
        await is_used_again(served, people)

    asyncio.run(through(bundle, redis.url, scenario))


def test_hanging(bundle: Bundle, people: list[Visitor]) -> None:
    """It takes connections and never answers: each call costs its timeout, and most are not made."""
    with socket.create_server(("127.0.0.1", 0)) as silent:

        async def scenario(served: Served) -> None:
            await all_from_the_model(served, people)
            assert await served.metric("hetlm_cache_errors_total", "get", "timeout") > 0

        asyncio.run(through(bundle, f"redis://127.0.0.1:{silent.getsockname()[1]}", scenario, timeout_ms=50))


def test_frozen_under_load_and_thawed(bundle: Bundle, people: list[Visitor], redis: RedisServer) -> None:
    async def scenario(served: Served) -> None:
        await is_used_again(served, people)
        with redis.client() as client:
            client.client_pause(1_500)
        await all_from_the_model(served, people)
        await is_used_again(served, people)

    asyncio.run(through(bundle, redis.url, scenario, timeout_ms=100))


@pytest.mark.parametrize("damage", ["a list", "rubbish", "a bit", "another's"])
def test_a_wrong_type_or_a_corrupted_value(
    bundle: Bundle, people: list[Visitor], redis: RedisServer, damage: str
) -> None:
    async def scenario(served: Served) -> None:
        await is_used_again(served, people)
        with redis.client() as client:
            keys = client.keys(PREFIX + b"*")
            values = {key: client.get(key) for key in keys}
            for key, other in zip(keys, [*keys[1:], keys[0]], strict=True):
                if damage == "a list":
                    client.delete(key)
                    client.lpush(key, b"1", b"2")
                elif damage == "rubbish":
                    client.set(key, b"\xff\r\n$-1\r\n")
                elif damage == "a bit":
                    value = values[key]
                    client.set(key, value[:60] + bytes([value[60] ^ 1]) + value[61:])
                else:
                    client.set(key, values[other])
        await all_from_the_model(served, people)
        if damage != "a list":
            assert await served.metric("hetlm_cache_sessions_total", "corrupt") > 0
        await is_used_again(served, people)  # and mended

    asyncio.run(through(bundle, redis.url, scenario))


def test_refusing_auth(bundle: Bundle, people: list[Visitor], redis: RedisServer) -> None:
    async def scenario(served: Served) -> None:
        with redis.client() as client:
            client.config_set("requirepass", "zq-another-password")
        await all_from_the_model(served, people)
        assert await served.metric("hetlm_cache_errors_total", "get", "down") > 0
        assert "zq-" not in served.log.getvalue()
        with Redis(unix_socket_path=str(redis.socket), password="zq-another-password") as client:
            client.config_set("requirepass", "")
        await is_used_again(served, people)

    asyncio.run(through(bundle, redis.url, scenario))


def test_out_of_memory(bundle: Bundle, people: list[Visitor], redis: RedisServer) -> None:
    async def scenario(served: Served) -> None:
        with redis.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1mb")
        await all_from_the_model(served, people)
        assert await served.metric("hetlm_cache_errors_total", "put", "refused") > 0
        with redis.client() as client:
            client.config_set("maxmemory", "0")
        await is_used_again(served, people)

    asyncio.run(through(bundle, redis.url, scenario))
