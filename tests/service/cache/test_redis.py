"""Against a real redis-server."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from service.cache.redis import PREFIX, RedisStore
from service.cache.store import StoreError
from tests.service.redis_server import RedisServer

ROUNDS = 5_000 if os.environ.get("HETLM_SOAK") else 50
"""Of 20 cancelled calls each."""


def with_store(url: str, scenario: Callable[[RedisStore], Awaitable[None]], **settings: float) -> None:
    async def run() -> None:
        store = RedisStore(url, **{"timeout": 2.0, "back_off": 0.0, **settings})  # type: ignore[arg-type]
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(run())


def test_what_was_put_is_there_under_a_prefix_and_with_an_end(redis_server: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        await store.put_many({b"a": b"1", b"b\0": b"\xff\r\n"})
        assert await store.get_many([b"b\0", b"nothing", b"a"]) == [b"\xff\r\n", None, b"1"]
        assert await store.get_many([]) == []
        await store.put_many({})

    with_store(redis_server.url, scenario, ttl_seconds=77)
    with redis_server.client() as client:
        assert sorted(client.keys("*")) == [PREFIX + b"a", PREFIX + b"b\0"]
        assert 70 < client.ttl(PREFIX + b"a") <= 77


def test_absent_at_the_start_and_there_later(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)

    async def scenario(store: RedisStore) -> None:
        with pytest.raises(StoreError, match="down"):
            await store.get_many([b"a"])
        await asyncio.to_thread(server.start)
        await store.put_many({b"a": b"1"})
        assert await store.get_many([b"a"]) == [b"1"]

    try:
        with_store(server.url, scenario)
    finally:
        server.remove()


def test_gone_in_the_middle_and_back(redis_server: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        await store.put_many({b"a": b"1"})
        redis_server.kill()
        for _ in range(3):
            with pytest.raises(StoreError):
                await store.get_many([b"a"])
        await asyncio.to_thread(redis_server.start)
        assert await store.get_many([b"a"]) == [None]

    with_store(redis_server.url, scenario)


def test_a_dead_one_is_left_alone_for_a_while(redis_server: RedisServer) -> None:
    now = 0.0

    async def run() -> None:
        nonlocal now
        store = RedisStore(redis_server.url, timeout=2.0, back_off=5.0, clock=lambda: now)
        redis_server.kill()
        with pytest.raises(StoreError, match="down"):
            await store.get_many([b"a"])
        await asyncio.to_thread(redis_server.start)
        with pytest.raises(StoreError, match="backing_off"):
            await store.get_many([b"a"])
        with pytest.raises(StoreError, match="backing_off"):
            await store.put_many({b"a": b"1"})
        now = 5.1
        assert await store.get_many([b"a"]) == [None]
        await store.close()

    asyncio.run(run())


def test_a_silent_one_costs_its_timeout_and_no_more() -> None:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        async def scenario(store: RedisStore) -> None:
            began = time.monotonic()
            with pytest.raises(StoreError, match="timeout"):
                await store.get_many([b"a"])
            assert time.monotonic() - began < 1.0

        with_store(f"redis://127.0.0.1:{port}", scenario, timeout=0.05)


def test_a_full_one_refuses_writes_and_still_reads(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()

    async def scenario(store: RedisStore) -> None:
        await store.put_many({b"a": b"1"})
        with server.client() as client:
            client.config_set("maxmemory", "1")
        with pytest.raises(StoreError, match="refused"):
            await store.put_many({b"b": b"2"})
        assert await store.get_many([b"a", b"b"]) == [b"1", None]

    try:
        with_store(server.url, scenario, back_off=60.0)
    finally:
        server.remove()


def test_a_value_of_another_kind_is_none(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.lpush(PREFIX + b"a", b"1")

    async def scenario(store: RedisStore) -> None:
        assert await store.get_many([b"a"]) == [None]

    with_store(redis_server.url, scenario)


@pytest.mark.soak
def test_a_thousand_cancelled_calls_confuse_no_reply_and_lose_no_connection(redis_server: RedisServer) -> None:
    draw = random.Random(5)

    async def scenario(store: RedisStore) -> None:
        await store.put_many({b"%d" % i: b"value %d" % i for i in range(100)})

        async def look(i: int) -> None:
            assert await store.get_many([b"%d" % i, b"%d" % (99 - i)]) == [b"value %d" % i, b"value %d" % (99 - i)]

        for _ in range(ROUNDS):
            calls = [asyncio.create_task(look(draw.randrange(100))) for _ in range(20)]
            for call in calls:
                asyncio.get_running_loop().call_later(draw.random() * 0.004, call.cancel)
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ended), ended
        await asyncio.gather(*(look(i) for i in range(20)))

    with_store(redis_server.url, scenario)
    with redis_server.client() as client:
        assert len(client.client_list()) == 1, "connections were left open"


def test_a_malformed_address_is_refused() -> None:
    with pytest.raises(ValueError, match="scheme"):
        RedisStore("http://127.0.0.1:1")
