"""A service in virtual time: it passes only when nobody has anything to do, threads included. What depends on waiting
times then comes out the same on any machine."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

import pytest

from service.resilience.admission import Admission
from service.resilience.breaker import Breaker
from service.resilience.circuits import Circuits

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Standing(selectors.SelectSelector):
    """Instead of waiting, moves its clock; stands still while a thread works. `working`: how many do."""

    now = 0.0
    working = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.working:
            return super().select(None)  # a thread that is done writes to the loop's own socket
        assert timeout is not None, "everybody waits for something that no time will bring"
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """For code without sockets, signals or child processes."""

    def __init__(self) -> None:
        self._clock = _Standing()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._clock.working += 1
        future.add_done_callback(self._rested)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        self._clock.working += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._clock.working -= 1

    def _rested(self, _: asyncio.Future[Any]) -> None:
        self._clock.working -= 1


def passing(work: Callable[[], Coroutine[Any, Any, T]], monkeypatch: pytest.MonkeyPatch) -> T:
    """`asyncio.run(work())` in virtual time, by which the service's clocks go too."""
    loop = VirtualLoop()
    real = time.monotonic
    for owner in (Admission, Breaker, Circuits):  # their clocks are defaults, which were chosen when they were defined
        init = owner.__init__
        defaults, named = init.__defaults__ or (), init.__kwdefaults__ or {}
        assert real in (*defaults, *named.values()), owner
        monkeypatch.setattr(init, "__defaults__", tuple(loop.time if value is real else value for value in defaults))
        monkeypatch.setattr(
            init, "__kwdefaults__", {name: loop.time if value is real else value for name, value in named.items()}
        )
    monkeypatch.setattr(time, "monotonic", loop.time)
    monkeypatch.setattr(time, "perf_counter", loop.time)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(work())
