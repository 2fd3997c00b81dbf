"""What is done to a service under load, and undone: engines, Redis, the clock, the disk."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from loadtest.client import JSON
from loadtest.soak.redis import RedisServer
from loadtest.soak.serving import Served
from loadtest.soak.standin import FakeVllm, Fault
from loadtest.soak.victim import JUMPED

NDJSON = "application/x-ndjson"
PREFIX = b"hetlm:session:*"
FULL_AT = 4_096
"""Bytes that a file may have while the disk counts as full."""
ENGINE = ("hetlm_engine_errors_total", "hetlm_circuit_openings_total")
CACHE = ("hetlm_cache_errors_total", 'hetlm_cache_sessions_total{result="corrupt"}')
MISSES = ('hetlm_cache_sessions_total{result="miss"}',)
"""Everybody's sessions are in the cache when these strike."""

Act = Callable[[], Awaitable[None]]


class NoTraceError(RuntimeError):
    """The fault did not show: it was not there, so that nothing was tried."""


@dataclass(frozen=True, slots=True)
class Injury:
    """`strike`, `heal`: each may raise `NoTraceError`. `traces`: samples of `/metrics` of which at least one must rise
    while it lasts, by the beginnings of their names; none where the injury looks for itself."""

    name: str
    strike: Act
    heal: Act
    traces: tuple[str, ...] = ()


def engines(broken: FakeVllm) -> list[Injury]:
    """Of one cluster's engine; the others go on."""

    def into(name: str, fault: Fault, traces: tuple[str, ...] = ENGINE) -> Injury:
        async def strike() -> None:
            broken.fault = fault

        async def heal() -> None:
            broken.fault = None

        return Injury(name, strike, heal, traces)

    async def other_model() -> None:
        """As it comes about: one server ends, and another begins at its port."""
        await broken.stop()
        await asyncio.sleep(0.5)
        broken.fault = "other_model"
        await broken.start()

    async def own_model() -> None:
        broken.fault = None

    async def asked() -> None:
        count = broken.asked
        broken.fault = "slow"
        await asyncio.sleep(1.0)
        if broken.asked == count:
            raise NoTraceError("nobody asked the slow engine")

    return [
        Injury("an engine refuses connections", broken.stop, broken.start, ENGINE),
        into("an engine hangs", "hang"),
        Injury("an engine is slow", asked, own_model),
        into("an engine answers 500", "500"),
        into("an engine sends garbage", "garbage"),
        into("an engine sends token ids out of range", "ids"),
        into("an engine dies in the middle of an answer", "dies"),
        into("an engine redirects", "redirect"),
        into("another model behind the port, by its name", "other_name"),
        Injury("another model behind the port, by its probabilities", other_model, own_model, ENGINE),
    ]


def caches(redis: RedisServer) -> list[Injury]:
    async def die() -> None:
        redis.kill()

    async def freeze() -> None:
        redis.signal(signal.SIGSTOP)

    async def thaw() -> None:
        redis.signal(signal.SIGCONT)

    async def lists() -> None:
        async with redis.client() as client:
            for key in await client.keys(PREFIX):
                await client.delete(key)
                await client.rpush(key, b"1", b"2")

    async def bits() -> None:
        async with redis.client() as client:
            for key in await client.keys(PREFIX):
                value = await client.get(key)
                if isinstance(value, bytes):
                    await client.set(key, value[:-9] + bytes([value[-9] ^ 1]) + value[-8:])

    async def swapped() -> None:
        async with redis.client() as client:
            keys = await client.keys(PREFIX)
            values = [await client.get(key) for key in keys]
            for key, value in zip(keys, values[1:] + values[:1], strict=True):
                if value:
                    await client.set(key, value)

    async def locked() -> None:
        async with redis.client() as client:
            await client.config_set("requirepass", "another-password")
            await client.client_kill_filter(_type="normal", skipme=True)

    async def unlocked() -> None:
        async with redis.client("another-password") as client:
            await client.config_set("requirepass", "")

    async def full() -> None:
        async with redis.client() as client:
            await client.flushdb()
            await client.config_set("maxmemory-policy", "noeviction")
            await client.config_set("maxmemory", "1")

    async def roomy() -> None:
        async with redis.client() as client:
            await client.config_set("maxmemory", "0")

    async def nothing() -> None:
        return

    return [
        Injury("Redis is killed, is absent, comes back", die, redis.start, CACHE),
        Injury("Redis hangs", freeze, thaw, CACHE),
        Injury("Redis returns a wrong type", lists, nothing, MISSES),
        Injury("Redis returns corrupted values", bits, nothing, CACHE),
        Injury("Redis returns other keys' values", swapped, nothing, CACHE),
        Injury("Redis refuses AUTH", locked, unlocked, CACHE),
        Injury("Redis is out of memory", full, roomy, CACHE),
    ]


def clock(served: Served) -> Injury:
    """The service runs under `loadtest.soak.victim`."""

    async def jump() -> None:
        served.signal(signal.SIGUSR2)

    async def stand() -> None:
        served.signal(signal.SIGUSR2)
        for _ in range(100):
            said = await asyncio.to_thread(served.log.read_text, errors="replace")
            for line in said.splitlines():
                if line.startswith(JUMPED) and int(line.removeprefix(JUMPED)) > 0:
                    return
            await asyncio.sleep(0.1)
        raise NoTraceError("nobody looked at the clock that jumped")

    return Injury("the clock jumps", jump, stand)


def disk(served: Served, client: httpx.AsyncClient, body: bytes) -> Injury:
    """No file may grow beyond `FULL_AT` bytes: what is written beyond fails as on a full disk, the log too. `body`: a
    batch larger than that."""
    before = resource.prlimit(served.pid, resource.RLIMIT_FSIZE)

    async def fill() -> None:
        resource.prlimit(served.pid, resource.RLIMIT_FSIZE, (FULL_AT, before[1]))
        response = await client.post("/batches", content=body, headers={"Content-Type": NDJSON})
        problem = response.json().get("type", "") if response.headers.get("content-type", "") != JSON else ""
        if (response.status_code, problem) != (507, "urn:hetlm:problem:disk-full"):
            raise NoTraceError(f"a batch on a full disk was answered {response.status_code} {problem}")

    async def empty() -> None:
        resource.prlimit(served.pid, resource.RLIMIT_FSIZE, before)
        response = await client.post("/batches", content=body, headers={"Content-Type": NDJSON})
        if response.status_code != 202:
            raise NoTraceError(f"a batch after the full disk was answered {response.status_code}")
        await client.delete(f"/batches/{response.json()['id']}")

    return Injury("the disk is full: log and batches", fill, empty)
