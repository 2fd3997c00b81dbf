"""A service that is about to end takes no rollout, and gives up the one under way: wholly, or not at all."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.versions.memory import FILE, Memory, Remembered, RememberedCanary
from tests.service.building import same
from tests.service.versions.building import BODIES, Factory, Fake, Known, Moving, moving, threads_left


def held(name: str) -> Factory:
    """The engines of this version never start."""

    def prepare(engine: Fake) -> None:
        if engine.name == name:
            engine.hold["start"] = asyncio.Event()

    return Factory(prepare=prepare)


async def answers_as(made: Moving, known: Known, name: str) -> None:
    assert [same(await made.predict(body)) for body in BODIES] == known[name]


def remembered(folder: Path) -> str:
    name: str = json.loads((folder / FILE).read_text())["serving"]["name"]
    return name


def test_no_rollout_is_taken_any_more(folder: Path, known: Known) -> None:
    async def scenario() -> None:
        before = (folder / FILE).read_bytes()
        async with moving(folder) as made:
            made.service.leave()
            for refused in (await made.activate("v2", 503), await made.canary("v2", 0.5, 503)):
                assert refused["type"] == "urn:hetlm:problem:not-ready"
                assert "about to end, and takes no rollout" in refused["detail"]
            await answers_as(made, known, "v1")
            assert (await made.states())["v1"] == "serving"
            assert [engine.name for engine in made.factory.made] == ["v1"]
        assert (folder / FILE).read_bytes() == before

    asyncio.run(scenario())


@pytest.mark.parametrize("ask", [lambda made: made.activate("v2", 503), lambda made: made.canary("v2", 0.5, 503)])
def test_the_one_under_way_is_given_up_at_once(
    folder: Path, known: Known, ask: Callable[[Moving], Awaitable[dict[str, str]]]
) -> None:
    """Not only when the last request is answered: its engines would take the machine from those who still serve."""

    async def scenario() -> None:
        before = (folder / FILE).read_bytes()
        async with moving(folder, factory=held("v2")) as made:
            asking = asyncio.ensure_future(ask(made))
            await made.until(lambda: len(made.factory.made) == 2)
            made.service.leave()
            refused = await asking
            assert refused["type"] == "urn:hetlm:problem:not-ready"
            assert "gave the rollout up: v1 is served" in refused["detail"]
            await made.until(lambda: made.factory.of("v2").stops == 1)
            assert made.factory.running == ["v1"]
            await answers_as(made, known, "v1")
            await made.activate("v3", 503)
        assert (folder / FILE).read_bytes() == before
        assert made.factory.of("v1").stops == 1

    asyncio.run(scenario())
    assert threads_left() == []


def test_a_canary_of_the_start_is_given_up(folder: Path, known: Known) -> None:
    async def scenario() -> None:
        async with moving(folder, factory=held("v2"), canary="v2=0.5") as made:
            await made.until(lambda: len(made.factory.made) == 2)
            made.service.leave()
            await made.until(lambda: made.factory.of("v2").stops == 1)
            assert made.service.router.canary is None
            await answers_as(made, known, "v1")

    asyncio.run(scenario())


def test_told_to_end_before_it_began_it_waits_for_no_engine(folder: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), moving(folder, factory=held("v1"), wait=False, leave=True):
            pass

    asyncio.run(scenario())


class Slow:
    """Instead of `Memory.write`: begins, and goes on when it is told to; `error` is raised then."""

    def __init__(self, error: OSError | None = None) -> None:
        self.begun, self.go, self.error = threading.Event(), threading.Event(), error

    def instead(self, memory: Memory, serving: Remembered, canary: RememberedCanary | None) -> None:
        self.begun.set()
        assert self.go.wait(60)
        if self.error is not None:
            raise self.error
        self.write(memory, serving, canary)

    write = staticmethod(Memory.write)


@asynccontextmanager
async def left_while_remembering(folder: Path, slow: Slow) -> AsyncIterator[tuple[Moving, str]]:
    """The service was told to end while v2 was being remembered; and what its rollout was told then."""
    async with moving(folder) as made:
        asking = asyncio.create_task(made.activate("v2", 503))
        await made.until(slow.begun.is_set)
        made.service.leave()
        slow.go.set()
        yield made, (await asking)["detail"]


def test_what_is_remembered_meanwhile_is_served(folder: Path, known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the next start would serve what was said to have been given up."""
    slow = Slow()
    monkeypatch.setattr(Memory, "write", lambda *arguments: slow.instead(*arguments))

    async def scenario() -> None:
        async with left_while_remembering(folder, slow) as (made, told):
            assert "v2 is served" in told
            await answers_as(made, known, "v2")
            assert remembered(folder) == "v2"
        assert [engine.stops for engine in made.factory.made] == [1, 1]

    asyncio.run(scenario())


def test_what_could_not_be_remembered_meanwhile_is_not_served(
    folder: Path, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(OSError(28, "No space left on device"))
    monkeypatch.setattr(Memory, "write", lambda *arguments: slow.instead(*arguments))

    async def scenario() -> None:
        async with left_while_remembering(folder, slow) as (made, told):
            assert "v1 is served" in told
            await made.until(lambda: made.factory.running == ["v1"])
            await answers_as(made, known, "v1")
            assert remembered(folder) == "v1"

    asyncio.run(scenario())
