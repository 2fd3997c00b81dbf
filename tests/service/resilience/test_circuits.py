"""Circuits in virtual time: an engine that says that it is back is not kept waiting."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable

import pytest

from browsing.engine import EngineDown, EngineError, GenerateRequest, Path
from browsing.vocabulary import BOS
from service.logs import logger
from service.resilience.circuits import CircuitOpen, Circuits
from service.resilience.replicas import PROBE_SECONDS, Tell, nobody
from tests.service.faults.virtual import passing

CLUSTERS = 2


class Engine:
    """`state`, of each cluster: well, dead, or mute (it takes a request and never answers). Says when one is back."""

    def __init__(self) -> None:
        self.state = ["well"] * CLUSTERS
        self.asked = [0] * CLUSTERS
        self.tell: Tell = nobody
        self.slow_check = 0.0

    def on_return(self, tell: Tell) -> None:
        self.tell = tell

    async def start(self) -> None: ...

    async def generate(self, request: GenerateRequest) -> list[Path]:
        self.asked[request.cluster] += 1
        match self.state[request.cluster]:
            case "dead":
                raise EngineDown("dead")
            case "mute":
                await asyncio.Event().wait()
        return []

    async def healthy(self) -> dict[int, bool]:
        found = {cluster: state == "well" for cluster, state in enumerate(self.state)}
        await asyncio.sleep(self.slow_check)
        return found

    async def stop(self) -> None: ...

    def back(self, *clusters: int, told: int | None) -> None:
        for cluster in clusters:
            self.state[cluster] = "well"
        self.tell(told)


class Meter:
    def __init__(self) -> None:
        self.open: dict[int, bool] = {}

    def circuit(self, cluster: int, *, is_open: bool) -> None:
        self.open[cluster] = is_open

    def engine_retried(self, cluster: int) -> None:
        raise AssertionError("there are no replicas")


def circuits(engine: Engine, meter: Meter) -> Circuits:
    return Circuits(engine, CLUSTERS, meter, logger("info", io.StringIO()), generator=random.Random(1))


def request(cluster: int) -> GenerateRequest:
    return GenerateRequest(cluster, (BOS,), 1, 1, greedy=True)


async def opened(made: Circuits, cluster: int) -> None:
    with pytest.raises(EngineError):
        await made.generate(request(cluster))
    with pytest.raises(CircuitOpen):
        await made.generate(request(cluster))


async def a_moment() -> None:
    """For everybody who has something to do now."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(scenario: Callable[[Engine, Meter, Circuits], object], monkeypatch: pytest.MonkeyPatch) -> None:
    async def whole() -> None:
        engine, meter = Engine(), Meter()
        made = circuits(engine, meter)
        await scenario(engine, meter, made)  # type: ignore[misc]
        await made.stop()
        assert len(asyncio.all_tasks()) == 1, "nobody probes any more"

    passing(whole, monkeypatch)


def test_an_engine_that_says_that_it_is_back_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After minutes the pauses between probes are at their longest."""

    async def scenario(engine: Engine, meter: Meter, made: Circuits) -> None:
        now = asyncio.get_running_loop().time
        engine.state = ["dead", "dead"]
        for cluster in range(CLUSTERS):
            await opened(made, cluster)
        await asyncio.sleep(100)
        assert made.wait(0) > 0.0
        returned = now()
        engine.back(0, told=0)
        await a_moment()
        assert (made.closed(0), meter.open) == (True, {0: False, 1: True})
        assert await made.generate(request(0)) == []
        assert now() == returned, "no time has passed"

    run(scenario, monkeypatch)


def test_one_that_is_back_with_all_its_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(engine: Engine, meter: Meter, made: Circuits) -> None:
        engine.state = ["dead", "dead"]
        for cluster in range(CLUSTERS):
            await opened(made, cluster)
        await asyncio.sleep(100)
        engine.back(0, 1, told=None)
        await a_moment()
        assert meter.open == {0: False, 1: False}

    run(scenario, monkeypatch)


def test_a_probe_of_the_engine_before_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(engine: Engine, meter: Meter, made: Circuits) -> None:
        now = asyncio.get_running_loop().time
        engine.state[0] = "dead"
        await opened(made, 0)
        engine.state[0] = "mute"
        asked = engine.asked[0]
        await asyncio.sleep(PROBE_SECONDS / 2)
        assert engine.asked[0] == asked + 1, "a probe is under way"
        returned = now()
        engine.back(0, told=None)
        await a_moment()
        assert (made.closed(0), now()) == (True, returned)

    run(scenario, monkeypatch)


def test_one_that_says_so_and_is_not_is_probed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its word alone closes no circuit."""

    async def scenario(engine: Engine, meter: Meter, made: Circuits) -> None:
        engine.state[0] = "dead"
        await opened(made, 0)
        engine.tell(0)
        await a_moment()
        assert not made.closed(0)
        engine.state[0] = "well"
        await asyncio.sleep(10)
        assert made.closed(0), "by the usual probes"

    run(scenario, monkeypatch)


def test_nothing_happens_where_nobody_had_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(engine: Engine, meter: Meter, made: Circuits) -> None:
        engine.tell(None)
        await a_moment()
        assert engine.asked == [0, 0]
        assert made.closed(0)

    run(scenario, monkeypatch)


def test_one_that_is_back_after_the_end_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(engine: Engine, meter: Meter, made: Circuits) -> None:
        engine.state[0] = "dead"
        await opened(made, 0)
        await made.stop()
        asked = engine.asked[0]
        engine.back(0, told=0)
        await a_moment()
        assert engine.asked[0] == asked

    run(scenario, monkeypatch)


def test_a_request_that_the_end_breaks_off_leaves_nobody_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its engine is stopped under it: it fails once nobody recovers any more."""

    class Ending(Engine):
        def __init__(self) -> None:
            super().__init__()
            self.ended = asyncio.Event()

        async def generate(self, request: GenerateRequest) -> list[Path]:
            await self.ended.wait()
            raise EngineDown("stopped")

        async def stop(self) -> None:
            self.ended.set()

    async def whole() -> None:
        engine = Ending()
        made = circuits(engine, Meter())
        asking = asyncio.create_task(made.generate(request(0)))
        await a_moment()
        await made.stop()
        with pytest.raises(EngineDown):
            await asking
        engine.tell(None)
        await a_moment()
        assert len(asyncio.all_tasks()) == 1, "nobody probes"

    passing(whole, monkeypatch)


def test_a_health_check_that_began_before_it_was_back_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another cluster's may take seconds, and all are told at the same time."""

    async def scenario(engine: Engine, meter: Meter, made: Circuits) -> None:
        engine.state[0] = "dead"
        await opened(made, 0)
        engine.slow_check = 5.0
        checking = asyncio.create_task(made.healthy())
        await asyncio.sleep(1)
        engine.back(0, told=0)
        await a_moment()
        assert made.closed(0)
        assert await checking == {0: False, 1: True}
        assert made.closed(0)
        engine.state[0] = "dead"
        assert await made.healthy() == {0: False, 1: True}
        assert not made.closed(0), "one that is newer than that counts"

    run(scenario, monkeypatch)


def test_who_answers_requests_is_not_dead_for_a_late_health_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under load the check waits behind requests; a cluster that nobody asks for has only its word."""

    async def scenario(engine: Engine, meter: Meter, made: Circuits) -> None:
        engine.slow_check = 5.0
        engine.state[:] = ["dead", "dead"]
        checking = asyncio.create_task(made.healthy())
        await asyncio.sleep(1)
        engine.state[:] = ["well", "well"]
        await made.generate(GenerateRequest(0, (BOS,), 1, 1))
        assert await checking == {0: True, 1: False}
        assert made.closed(0)
        assert not made.closed(1)

    run(scenario, monkeypatch)
