"""The embedded engine's supervisor: what is stuck holds up neither the next engine nor the end of the process."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from browsing.bundle import Bundle
from browsing.engine import EngineDown, EngineTimeout, GenerateRequest
from browsing.engine import Path as Sampled
from browsing.engines.local import LocalEngine
from browsing.engines.worker import advance
from browsing.vocabulary import BOS
from service.engines import supervised
from service.engines.queueing import Queueing
from service.engines.supervised import LONG_LIFE, SILENT, SupervisedEngine
from service.resilience.replicas import Returning
from tests import tiny

REQUEST = GenerateRequest(0, (BOS,), 1, 2, greedy=True, deadline=30.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("supervised") / "tiny"
    tiny.bundle(root)
    return Bundle.load(root)


class Trap:
    """Holds every worker that comes by while it is set."""

    def __init__(self) -> None:
        self.set = False
        self.caught: Future[None] = Future()
        self.opened = threading.Event()

    def __call__(self, *arguments: object) -> None:
        if self.set:
            self.caught.set_result(None)
            self.opened.wait()
        advance(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    made = Trap()
    monkeypatch.setattr("browsing.engines.worker.advance", made)
    monkeypatch.setattr(supervised, "STOP_SECONDS", 0.05)
    yield made
    made.opened.set()


async def stuck(engine: SupervisedEngine, trap: Trap) -> None:
    """One generation that does not end; whoever waits for it has a deadline."""
    trap.set, trap.caught = True, Future()
    with pytest.raises(EngineTimeout):
        await engine.generate(GenerateRequest(0, (BOS,), 1, 2, deadline=0.2))
    await asyncio.wrap_future(trap.caught)


def test_the_queue_of_every_engine_that_is_built_is_heard_of(bundle: Bundle) -> None:
    async def scenario() -> None:
        told: list[int] = []
        built: list[LocalEngine] = []

        def make() -> LocalEngine:
            built.append(LocalEngine(bundle.predictors()))
            return built[-1]

        engine = SupervisedEngine(make, pause=_none)
        assert isinstance(engine, Queueing)
        engine.on_wait(lambda cluster, _: told.append(cluster))
        await engine.start()
        await engine.generate(REQUEST)
        assert told == [0]
        await built[0].stop()
        back = asyncio.Event()
        engine.on_return(lambda _: back.set())
        with pytest.raises(EngineDown):
            await engine.generate(REQUEST)
        await asyncio.wait_for(back.wait(), 60)
        await engine.generate(REQUEST)
        assert (len(built), told) == (2, [0, 0])
        await engine.stop()

    asyncio.run(scenario())


def test_a_stuck_engine_does_not_hold_up_the_end(bundle: Bundle, trap: Trap, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        engine = SupervisedEngine(lambda: LocalEngine(bundle.predictors()))
        await engine.start()
        await stuck(engine, trap)
        await asyncio.wait_for(engine.stop(), 30)
        with pytest.raises(EngineDown):
            await engine.generate(REQUEST)

    with caplog.at_level(logging.WARNING, logger="service.engines.supervised"):
        asyncio.run(scenario())  # which joins the threads of the default executor
    assert ["does not stop" in record.message for record in caplog.records] == [True]


def test_stuck_engines_cost_no_thread_that_others_need(
    bundle: Bundle, trap: Trap, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another is replaced, and the loop's executor, of two threads here, still works."""
    monkeypatch.setattr(supervised, "HEALTH_SECONDS", 0.05)

    async def scenario() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        engine = SupervisedEngine(lambda: LocalEngine(bundle.predictors()), pause=_none)
        trap.set = False
        await engine.start()
        for _ in range(4):
            await stuck(engine, trap)
            dead = engine._engine
            for _ in range(SILENT):
                await engine.healthy()
            assert engine._engine is None
            trap.set = False
            await rebuilt(engine)
            assert engine._engine is not dead
            assert len(await engine.generate(REQUEST)) == 1
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 30) == 7
        await engine.stop()

    with caplog.at_level(logging.WARNING, logger="service.engines.supervised"):
        asyncio.run(scenario())
    said = [record.message for record in caplog.records if "does not stop" in record.message]
    assert "4 so far" in said[3], "and each holds its memory: the operator must know"


PROGRAM = """
import asyncio, sys, threading
from pathlib import Path
from browsing.engine import EngineError, GenerateRequest
from browsing.engines.local import LocalEngine
from browsing.vocabulary import BOS
from service.engines import supervised

async def main():
    engine = supervised.SupervisedEngine(lambda: LocalEngine([Path(sys.argv[1])]))
    await engine.start()
    inside = threading.Event()
    def never(*_):
        inside.set()
        threading.Event().wait()
    import browsing.engines.worker as worker
    worker.advance = never
    supervised.STOP_SECONDS = 0.1
    try:
        await engine.generate(GenerateRequest(0, (BOS,), 1, 2, deadline=0.2))
    except EngineError as error:
        print(type(error).__name__, flush=True)
    assert inside.is_set()
    await engine.stop()

asyncio.run(main())
"""


def test_a_process_with_a_stuck_generation_ends(bundle: Bundle) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(bundle.predictor(0))],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stdout.split()) == (0, ["EngineTimeout"]), done.stderr


async def _none(_: float) -> None:
    """No pause."""


async def rebuilt(engine: SupervisedEngine) -> None:
    assert engine._rebuilding is not None
    await engine._rebuilding


class Fake:
    """Dies when told; counts its lives."""

    def __init__(self) -> None:
        self.dead = False

    async def start(self) -> None:
        pass

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        if self.dead:
            raise EngineDown("dead")
        return []

    async def healthy(self) -> dict[int, bool]:
        return {0: not self.dead}

    async def stop(self) -> None:
        pass


def test_one_that_dies_again_and_again_is_rebuilt_with_growing_pauses() -> None:
    """The first time at once: recovery within two seconds. A long life makes it the first time again."""
    now, pauses = [0.0], list[float]()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def die(engine: SupervisedEngine) -> None:
        assert isinstance(engine._engine, Fake)
        engine._engine.dead = True
        with pytest.raises(EngineDown):
            await engine.generate(REQUEST)
        await rebuilt(engine)

    async def scenario() -> None:
        engine = SupervisedEngine(Fake, pause=pause, clock=lambda: now[0])
        await engine.start()
        for _ in range(6):
            await die(engine)
        assert len(pauses) == 5, "none before the first"
        assert all(later > earlier for earlier, later in zip(pauses, pauses[2:], strict=False))
        now[0] += LONG_LIFE
        await die(engine)
        assert len(pauses) == 5
        await engine.stop()

    asyncio.run(scenario())


def test_who_wants_to_know_is_told_when_the_new_one_answers() -> None:
    """And an engine that lived for twenty seconds is rebuilt without a pause, however often."""
    now, told = [0.0], list[tuple[int | None, bool]]()

    async def pause(seconds: float) -> None:
        raise AssertionError(seconds)

    async def scenario() -> None:
        engine = SupervisedEngine(Fake, pause=pause, clock=lambda: now[0])
        assert isinstance(engine, Returning)
        engine.on_return(lambda cluster: told.append((cluster, engine._engine is not None)))
        await engine.start()
        assert not told, "the first start is nobody's return"
        for deaths in range(1, 6):
            now[0] += 20.0
            assert isinstance(engine._engine, Fake)
            engine._engine.dead = True
            with pytest.raises(EngineDown):
                await engine.generate(REQUEST)
            assert len(told) == deaths - 1
            await rebuilt(engine)
            assert told == [(None, True)] * deaths
            assert await engine.generate(REQUEST) == []
        await engine.stop()

    asyncio.run(scenario())


class Mute(Fake):
    """Never says how it is."""

    async def healthy(self) -> dict[int, bool]:
        await asyncio.Event().wait()
        raise AssertionError


def test_one_that_does_not_even_say_that_it_is_ill_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "HEALTH_SECONDS", 0.01)

    async def scenario() -> None:
        made: list[Fake] = [Mute(), Fake()]
        engine = SupervisedEngine(lambda: made.pop(0))
        await engine.start()
        for _ in range(SILENT):
            assert await engine.healthy() == {}
        await rebuilt(engine)
        assert await engine.healthy() == {0: True}
        await engine.stop()

    asyncio.run(scenario())


class Late(Fake):
    """Answers a health check only when told, for the one before it."""

    def __init__(self) -> None:
        super().__init__()
        self.tell = asyncio.Event()

    async def healthy(self) -> dict[int, bool]:
        await self.tell.wait()
        return {0: False}


def test_the_silence_of_the_old_one_does_not_count_against_the_new_one() -> None:
    async def scenario() -> None:
        old, new = Late(), Fake()
        made: list[Fake] = [old, new]
        engine = SupervisedEngine(lambda: made.pop(0))
        await engine.start()
        checks = [asyncio.create_task(engine.healthy()) for _ in range(2 * SILENT)]
        await asyncio.sleep(0)
        old.tell.set()
        await asyncio.gather(*checks)
        await rebuilt(engine)
        new.dead = True
        await engine.healthy()
        assert engine._engine is new, "silent once"
        await engine.stop()

    asyncio.run(scenario())


def test_an_engine_that_answers_is_not_replaced_for_slow_health_checks(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow machine a check may wait behind one long batch after another."""
    monkeypatch.setattr(supervised, "HEALTH_SECONDS", 0.01)
    made: list[LocalEngine] = []
    again = asyncio.Event()

    class Slow(LocalEngine):
        async def healthy(self) -> dict[int, bool]:
            await asyncio.sleep(60)
            return {}

    def make() -> LocalEngine:
        made.append(Slow(bundle.predictors()))
        if len(made) == 2:
            again.set()
        return made[-1]

    async def scenario() -> None:
        engine = SupervisedEngine(make)
        await engine.start()
        for _ in range(2 * SILENT):
            assert await engine.healthy() == {}
            await engine.generate(REQUEST)
        assert len(made) == 1
        for _ in range(SILENT):
            await engine.healthy()
        async with asyncio.timeout(30):
            await again.wait()
        await engine.stop()

    asyncio.run(scenario())
