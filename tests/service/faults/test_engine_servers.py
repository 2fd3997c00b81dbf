"""Engines that misbehave, as real HTTP servers: whatever they do, every caller is answered rightly or told so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from browsing.bundle import Bundle
from service.engines.vllm_server import VllmServerEngine
from tests.service.faults.fake_vllm import FakeVllm, Fault
from tests.service.faults.serving import Served, serving
from tests.service.faults.traffic import Visitor, drive

BROKEN = 1
"""The cluster whose engine is broken in every test here."""


@asynccontextmanager
async def service_over(
    bundle: Bundle, *clusters: list[FakeVllm], probe_timeout: float = 5.0, probe_seconds: float = 0.3
) -> AsyncIterator[Served]:
    """One list of servers per cluster."""
    servers = [server for own in clusters for server in own]
    for server in servers:
        await server.start()
    try:
        urls = [[server.url for server in own] for own in clusters]
        engine = VllmServerEngine(urls, len(bundle.vocabulary), context=64, probe_timeout=probe_timeout)
        async with serving(bundle, engine, settings={"probe_seconds": probe_seconds}) as served:
            yield served
    finally:
        for server in servers:
            await server.stop()


def fakes(bundle: Bundle) -> list[FakeVllm]:
    return [FakeVllm(len(bundle.vocabulary), seed) for seed in range(bundle.clusters)]


async def falls_back(served: Served, people: list[Visitor], **options: object) -> None:
    """While the fault lasts: the other cluster is answered from its model, the broken one from the fallback, in the end
    without asking; with strict, 503."""
    account = await drive(served.client, people, options=options)
    while await served.metric("hetlm_circuit_open", str(BROKEN)) == 0:
        account = await drive(served.client, people, options=options)
    assert account.of(1 - BROKEN) == {"model"}
    assert account.of(BROKEN) == {"fallback"}
    assert await served.metric("hetlm_circuit_open", str(1 - BROKEN)) == 0
    assert (
        await served.metric("hetlm_engine_errors_total", "open")
        + await served.metric("hetlm_engine_errors_total", "error")
        + await served.metric("hetlm_engine_errors_total", "timeout")
    )
    account = await drive(served.client, people, options={**options, "strict": True})
    assert account.of(1 - BROKEN) == {"model"}
    assert account.of(BROKEN) == {"strict"}
    assert (await served.client.get("/readyz")).status_code == 200, "the others are welcome"
    assert "circuit_opened" in served.events()


async def recovers(served: Served, people: list[Visitor]) -> None:
    await served.recovers(people)
    assert await served.metric("hetlm_circuit_open", str(BROKEN)) == 0
    assert "circuit_closed" in served.events()


@pytest.mark.parametrize("fault", ["500", "garbage", "ids", "dies", "other_name", "other_model", "redirect"])
def test_an_engine_that_answers_wrongly(bundle: Bundle, people: list[Visitor], fault: Fault) -> None:
    async def scenario() -> None:
        servers = fakes(bundle)
        async with service_over(bundle, *([server] for server in servers)) as served:
            assert set((await drive(served.client, people)).kinds) == {"model"}
            if fault == "other_model":  # as it comes about: one server ends, and another begins at its port
                await servers[BROKEN].stop()
                await drive(served.client, people)
                await servers[BROKEN].start()
            servers[BROKEN].fault = fault
            await falls_back(served, people)
            servers[BROKEN].fault = None
            await recovers(served, people)

    asyncio.run(scenario())


def test_an_engine_that_refuses(bundle: Bundle, people: list[Visitor]) -> None:
    async def scenario() -> None:
        servers = fakes(bundle)
        async with service_over(bundle, *([server] for server in servers)) as served:
            assert set((await drive(served.client, people)).kinds) == {"model"}
            await servers[BROKEN].stop()
            await falls_back(served, people)
            openings = await served.metric("hetlm_circuit_openings_total", str(BROKEN))
            assert openings == 1, "it opens at once, and stays open"
            await servers[BROKEN].start()
            await recovers(served, people)

    asyncio.run(scenario())


def test_an_engine_that_hangs(bundle: Bundle, people: list[Visitor]) -> None:
    """Callers with little time say nothing about an engine by running out of it; the health check finds it."""

    async def scenario() -> None:
        servers = fakes(bundle)
        async with service_over(bundle, *([server] for server in servers), probe_timeout=1.0) as served:
            servers[BROKEN].fault = "hang"
            account = await drive(
                served.client, [p for p in people if p.cluster == BROKEN], options={"deadline_ms": 50}
            )
            assert set(account.kinds) == {"fallback"}
            await served.until(lambda: "circuit_opened" in served.events())
            asked = servers[BROKEN].asked
            await falls_back(served, people)
            assert servers[BROKEN].asked == asked, "nobody waits for it any more"
            servers[BROKEN].fault = None
            await recovers(served, people)

    asyncio.run(scenario())


def test_an_engine_that_hangs_is_found_by_those_who_wait_for_it(bundle: Bundle, people: list[Visitor]) -> None:
    async def scenario() -> None:
        servers = fakes(bundle)
        async with service_over(bundle, *([server] for server in servers), probe_seconds=300) as served:
            servers[BROKEN].fault = "hang"
            await drive(served.client, [p for p in people if p.cluster == BROKEN], options={"deadline_ms": 1_500})
            assert await served.metric("hetlm_circuit_open", str(BROKEN)) == 1
            assert await served.metric("hetlm_engine_errors_total", "timeout") > 0
            servers[BROKEN].fault = None
            await recovers(served, people)

    asyncio.run(scenario())


def test_an_engine_that_is_slow(bundle: Bundle, people: list[Visitor]) -> None:
    """It is waited for, within the deadline; a caller who has no time for it gets the fallback. No circuit opens."""

    async def scenario() -> None:
        servers = fakes(bundle)
        async with service_over(bundle, *([server] for server in servers)) as served:
            for server in servers:
                server.fault = "slow"
            assert set((await drive(served.client, people)).kinds) == {"model"}
            for server in servers:
                server.slow = 0.6
            account = await drive(served.client, people, options={"deadline_ms": 100}, width=1)
            assert set(account.kinds) == {"fallback"}
            account = await drive(served.client, people[:2], options={"deadline_ms": 100, "strict": True}, width=1)
            assert set(account.kinds) == {"strict"}
            assert "circuit_opened" not in served.events()
            for server in servers:
                server.fault = None
            await served.recovers(people)

    asyncio.run(scenario())


def test_one_of_two_replicas_fails_and_nobody_notices(bundle: Bundle, people: list[Visitor]) -> None:
    async def scenario() -> None:
        size = len(bundle.vocabulary)
        pair = [FakeVllm(size, BROKEN), FakeVllm(size, BROKEN)]
        async with service_over(bundle, [FakeVllm(size, 0)], pair) as served:
            for fault in ("500", "dies", "stopped", "hang"):
                assert set((await drive(served.client, people)).kinds) == {"model"}
                assert all(server.asked for server in pair), "both are asked"
                if fault == "stopped":
                    await pair[0].stop()
                else:
                    pair[0].fault = fault  # type: ignore[assignment]
                account = await drive(served.client, people, rounds=2, options={"deadline_ms": 10_000})
                assert set(account.kinds) == {"model"}, fault
                pair[0].fault = None
                if fault == "stopped":
                    await pair[0].start()
                await served.recovers(people)
            assert await served.metric("hetlm_engine_retries_total", str(BROKEN)) > 0
            assert await served.metric("hetlm_circuit_openings_total", str(BROKEN)) == 0

    asyncio.run(scenario())


def test_a_replica_may_come_later_and_must_be_the_same_model(bundle: Bundle, people: list[Visitor]) -> None:
    async def scenario() -> None:
        size = len(bundle.vocabulary)
        first, late = FakeVllm(size, BROKEN), FakeVllm(size, BROKEN + 5)
        await late.start()
        await late.stop()  # its port is known, and nobody is there
        other = FakeVllm(size, 0)
        for server in (first, other):
            await server.start()
        engine = VllmServerEngine([[other.url], [late.url, first.url]], size, context=64)
        async with serving(bundle, engine) as served:
            assert set((await drive(served.client, people)).kinds) == {"model"}
            await late.start()
            await served.until(lambda: late.asked > 0)
            assert set((await drive(served.client, people, rounds=2)).kinds) == {"model"}, "the wrong one is not used"
            late.seed = BROKEN
            await served.until(lambda: "circuit_closed" in served.events())
            assert set((await drive(served.client, people, rounds=2)).kinds) == {"model"}
        for server in (first, late, other):
            await server.stop()

    asyncio.run(scenario())
