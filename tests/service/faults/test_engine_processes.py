"""Engines that die: child processes by SIGKILL, under load; the embedded one by an exception in its thread."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from browsing.bundle import Bundle
from browsing.engine import EngineDown, EngineError, GenerateRequest
from browsing.engine import Path as Sampled
from browsing.engines.local import LocalEngine
from browsing.engines.worker import advance
from browsing.vocabulary import BOS
from service.engines.machine import Tuning
from service.engines.supervised import SupervisedEngine
from service.engines.vllm import VllmEngine
from tests.service.faults import fake_vllm
from tests.service.faults.serving import serving
from tests.service.faults.traffic import Visitor, drive, kind_of, visitors

VICTIM = 0


def children(bundle: Bundle, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> VllmEngine:
    """Supervised as vLLM is; each child is a `FakeVllm`, started in half a second."""

    def program(predictor: Path, name: str, port: int, tuning: Tuning) -> list[str]:
        seed = predictor.name.removeprefix("cluster-")
        return [sys.executable, fake_vllm.__file__, str(port), name, str(len(bundle.vocabulary)), seed]

    tuning = Tuning(gpu=False, dtype="float32", eager=True)
    return VllmEngine(
        bundle.predictors(),
        len(bundle.vocabulary),
        tuning=tuning,
        context=64,
        probe_every=0.5,
        program=program,
        pause=pause,
    )


def served_by(group: int) -> int:
    """The process below a child's guard."""
    [own] = Path(f"/proc/{group}/task/{group}/children").read_text().split()
    return int(own)


def test_a_child_killed_under_load(bundle: Bundle, people: list[Visitor]) -> None:
    """Recovery: the child's start and five seconds. (Ten here: the machine is busy with tests.)"""

    async def scenario() -> None:
        engine = children(bundle)
        started = time.monotonic()
        async with serving(bundle, engine) as served:
            start_time = time.monotonic() - started
            group = engine.groups[VICTIM]
            assert group is not None
            killed = asyncio.Event()

            async def kill() -> float:
                await asyncio.sleep(0.5)
                os.kill(served_by(group), signal.SIGKILL)
                killed.set()
                return time.monotonic()

            killing = asyncio.create_task(kill())
            before = await drive(served.client, people, until=killed.is_set)
            assert set(before.kinds) <= {"model", "fallback"}
            during = await drive(served.client, people)
            assert during.of(1 - VICTIM) == {"model"}
            assert "fallback" in during.of(VICTIM)
            assert "circuit_opened" in served.events()
            await served.recovers(people, seconds=60)
            assert time.monotonic() - await killing < start_time + 10
            assert engine.groups[VICTIM] not in (None, group)
            assert not os.path.exists(f"/proc/{group}"), "nothing of the old one is left"  # noqa: ASYNC240

    asyncio.run(scenario())


def test_a_child_that_ends_is_started_anew_at_once_and_says_when_it_answers(bundle: Bundle) -> None:
    """The second time, soon after the first, there is a pause."""
    pauses, told = list[float](), list[tuple[int | None, bool]]()
    back = asyncio.Event()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    def tell(cluster: int | None) -> None:
        told.append((cluster, engine.urls[VICTIM] is not None))
        back.set()

    engine = children(bundle, pause)
    engine.on_return(tell)
    request = GenerateRequest(VICTIM, (BOS,), 1, 2, deadline=60.0)

    async def scenario() -> None:
        await engine.start()
        expected = await engine.generate(request)
        for deaths in (1, 2):
            back.clear()
            group = engine.groups[VICTIM]
            assert group is not None
            os.kill(served_by(group), signal.SIGKILL)
            async with asyncio.timeout(120):
                await back.wait()
            assert told == [(VICTIM, True)] * deaths
            again = await engine.generate(request)
            assert [path.tokens for path in again] == [path.tokens for path in expected]
        await engine.stop()

    asyncio.run(scenario())
    first, second = pauses
    assert first == 0.0
    assert 0.5 <= second <= 1.0


class _Lasting(LocalEngine):
    """`visitors` runs an event loop per question: the synchronous core is the same in all."""

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        return self.generate_batch([request])[0]


@pytest.fixture(scope="module")
def own_people(bundle: Bundle) -> list[Visitor]:
    """Visitors whose model's answers are the embedded engine's own."""
    return visitors(bundle, 8, _Lasting(bundle.predictors()))


class _Bomb(BaseException):
    """What no worker expects: not even an `Exception`."""


def test_the_embedded_engine_dies_and_is_rebuilt(
    bundle: Bundle, own_people: list[Visitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery: two seconds. (Ten here: the machine is busy with tests.)"""

    async def scenario() -> None:
        engine = SupervisedEngine(lambda: LocalEngine(bundle.predictors()))
        async with serving(bundle, engine) as served:
            assert set((await drive(served.client, own_people)).kinds) == {"model"}
            bombs = [_Bomb()]

            def explode(*arguments: object) -> None:
                if bombs:
                    raise bombs.pop()
                advance(*arguments)  # type: ignore[arg-type]

            monkeypatch.setattr("browsing.engines.worker.advance", explode)
            died = time.monotonic()
            account = await drive(served.client, own_people)
            assert account.kinds["fallback"] > 0
            await served.recovers(own_people)
            assert time.monotonic() - died < 10
            assert not bombs
            assert "circuit_opened" in served.events()

    asyncio.run(scenario())


def test_nobody_waits_for_a_dead_worker(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        engine = LocalEngine(bundle.predictors())
        await engine.start()

        def explode(*_: object) -> None:
            raise _Bomb

        monkeypatch.setattr("browsing.engines.worker.advance", explode)
        request = GenerateRequest(0, (BOS,), 2, 3, deadline=60.0)
        for _ in range(2):  # those that were with it, and those that come later
            ended = await asyncio.gather(*(engine.generate(request) for _ in range(3)), return_exceptions=True)
            assert [type(end) for end in ended] == [EngineDown] * 3
        assert set((await engine.healthy()).values()) == {False}
        await engine.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


class _Silent:
    """Never answers, and cannot be stopped."""

    async def start(self) -> None:
        pass

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        await asyncio.Event().wait()
        raise AssertionError

    async def healthy(self) -> dict[int, bool]:
        return {0: False, 1: False}

    async def stop(self) -> None:
        await asyncio.Event().wait()


def test_an_embedded_engine_that_is_stuck_is_replaced(bundle: Bundle, own_people: list[Visitor]) -> None:
    async def scenario() -> None:
        stuck = [_Silent()]
        engine = SupervisedEngine(lambda: stuck.pop() if stuck else LocalEngine(bundle.predictors()))
        async with serving(bundle, engine, settings={"probe_seconds": 0.05}) as served:
            await served.recovers(own_people)

    asyncio.run(scenario())


def test_rebuilding_is_tried_again_until_it_works(bundle: Bundle) -> None:
    """A file that cannot be read for a while."""

    async def scenario() -> None:
        moved = bundle.predictor(1).with_name("elsewhere")
        engine = SupervisedEngine(lambda: LocalEngine(bundle.predictors()))
        await engine.start()
        await engine.start()  # nothing happens
        request = GenerateRequest(1, (BOS,), 1, 2, greedy=True)
        expected = await engine.generate(request)
        bundle.predictor(1).rename(moved)
        try:
            assert engine._engine is not None
            await engine._engine.stop()  # dead, for whatever reason
            for _ in range(2):
                with pytest.raises(EngineDown):
                    await engine.generate(request)
            assert await engine.healthy() == {}
            await asyncio.sleep(0.5)
        finally:
            moved.rename(bundle.predictor(1))
        for _ in range(600):
            try:
                again = await engine.generate(request)
                break
            except EngineDown:
                await asyncio.sleep(0.05)
        assert [path.tokens for path in again] == [path.tokens for path in expected]
        await engine.stop()
        await engine.stop()
        with pytest.raises(EngineError):
            await engine.generate(request)

    asyncio.run(scenario())


def test_kinds_of_answers_are_told_apart(people: list[Visitor]) -> None:
    """The accounting itself: a wrong answer and a wrong refusal do not pass."""
    import httpx

    visitor = people[0]
    for wrong in (
        httpx.Response(500, json={"type": "urn:hetlm:problem:internal"}),
        httpx.Response(503, json={"type": "urn:hetlm:problem:engine-down"}),
        httpx.Response(200, json={"user_id": "somebody else"}),
    ):
        with pytest.raises((AssertionError, KeyError)):
            kind_of(visitor, wrong)
