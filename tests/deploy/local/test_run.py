"""Starting in order, keeping alive, stopping in the opposite order: with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.model import HealthCheck, Model
from deploy.local.run import StartError, running
from deploy.local.translate import Process

WAITS = (sys.executable, "-c", "import time; time.sleep(600)")


def model(**depends: dict[str, str]) -> Model:
    services = {
        name: {"image": "i", "depends_on": {other: {"condition": state} for other, state in needed.items()}}
        for name, needed in depends.items()
    }
    return Model.model_validate({"name": "n", "services": services})


def process(name: str, command: tuple[str, ...] = WAITS, health: HealthCheck | None = None) -> Process:
    return Process(name, "127.0.0.1", command, {"PATH": os.environ["PATH"]}, health, 5.0)


def check(script: str, *, start_period: float = 60.0, retries: int = 3) -> HealthCheck:
    return HealthCheck(
        test=(sys.executable, "-c", script),
        interval=0.2,
        timeout=20.0,
        retries=retries,
        start_period=start_period,
        start_interval=0.2,
    )


async def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


def until_exists(path: Path) -> str:
    return f"import pathlib, sys; sys.exit(not pathlib.Path({str(path)!r}).exists())"


def goes_politely(name: str, folder: Path) -> Process:
    """Healthy once `name.ready` is there; writes its name into `goodbyes` when it is asked to end."""
    ready, goodbyes = folder / f"{name}.ready", folder / "goodbyes"
    script = f"""
import pathlib, signal, sys, time
def leave(*_):
    with open({str(goodbyes)!r}, "a") as file:
        file.write("{name} ")
    sys.exit()
signal.signal(signal.SIGTERM, leave)
pathlib.Path({str(ready)!r}).touch()
time.sleep(600)
"""
    return process(name, (sys.executable, "-c", script), check(until_exists(ready)))


def test_who_depends_on_health_waits_for_it_and_all_stop_backwards(tmp_path: Path) -> None:
    processes = {name: goes_politely(name, tmp_path) for name in ("top", "below")}
    news: list[str] = []

    async def scenario() -> None:
        shape = model(top={"below": "service_healthy", "absent": "service_started"}, below={}, absent={})
        async with running(shape, processes, tmp_path, lambda name, what: news.append(f"{name} {what}")) as up:
            assert all(one.healthy.is_set() for one in up.values())

    asyncio.run(scenario())
    assert (tmp_path / "goodbyes").read_text() == "top below "
    assert news.index("below healthy") < news.index("top started at 127.0.0.1")
    assert news[-2:] == ["top stopping", "below stopping"]
    assert "absent left out: its program is not installed here" in news


def test_what_ends_is_started_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(model(a={}), {"a": process("a")}, tmp_path, lambda *_: None) as up:
            one = up["a"]
            assert one.child.group is not None
            os.killpg(one.child.group, signal.SIGTERM)
            await until(lambda: one.starts == 2 and one.healthy.is_set())

    asyncio.run(scenario())


def test_health_that_comes_and_goes_is_followed(tmp_path: Path) -> None:
    sign = tmp_path / "ready"
    sign.touch()

    async def scenario() -> None:
        one = process("a", health=check(until_exists(sign)))
        async with running(model(a={}), {"a": one}, tmp_path, lambda *_: None) as up:
            for there in (False, True):
                sign.touch() if there else sign.unlink()
                await until(lambda there=there: up["a"].healthy.is_set() == there)  # type: ignore[misc]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("command", "health"),
    [
        (WAITS, check("raise SystemExit(1)", start_period=0.5, retries=2)),
        ((sys.executable, "-c", "print('last words')"), check("raise SystemExit(1)")),
    ],
)
def test_what_never_is_healthy_ends_everything(tmp_path: Path, command: tuple[str, ...], health: HealthCheck) -> None:
    processes = {"a": process("a", command, health), "b": process("b")}
    news: list[str] = []

    async def scenario() -> None:
        shape = model(a={}, b={"a": "service_healthy"})
        async with running(shape, processes, tmp_path, lambda name, what: news.append(f"{name} {what}")):
            raise AssertionError("nothing is up")

    with pytest.raises(StartError, match="a did not become healthy"):
        asyncio.run(scenario())
    assert news == ["a started at 127.0.0.1", "a stopping"]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    gone = process("a", ("/no/such/program",), check("raise SystemExit(1)", start_period=0.0, retries=1))

    async def scenario() -> None:
        async with running(model(a={}), {"a": gone}, tmp_path, lambda *_: None):
            raise AssertionError("nothing is up")

    with pytest.raises(StartError, match="/no/such/program: "):
        asyncio.run(scenario())
