"""Whether the service is ready: the engines are started once, then asked for a real token again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from structlog.typing import FilteringBoundLogger

from browsing.engine import Engine
from service.logs import described
from service.metrics import Metrics

PATIENCE = 15.0
"""Seconds that one round of probes may take; engines bound their own probes below this."""


class Health:
    """`started`: the engine's start is over; awaiting it raises what went wrong. `ready`: requests are welcome. One
    cluster that does not answer is no reason to send its visitors and all others away: they are answered around it."""

    def __init__(
        self, engine: Engine, clusters: int, metrics: Metrics, log: FilteringBoundLogger, probe_seconds: float
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._log = log
        self._pause = probe_seconds
        self.up: dict[int, bool] = dict.fromkeys(range(clusters), False)
        self.draining = False
        self._start: asyncio.Task[None] | None = None

    @property
    def starting(self) -> bool:
        return self._start is None or not self._start.done()

    @property
    def ready(self) -> bool:
        return not self.draining and any(self.up.values())

    @property
    def down(self) -> list[int]:
        """The clusters that do not answer."""
        return [cluster for cluster, up in self.up.items() if not up]

    def drain(self) -> None:
        """The service is about to stop: not ready from now on."""
        self.draining = True
        self._metrics.engines(self.up, ready=False)

    async def started(self) -> None:
        """Returns when the engine is started and was probed once. Raises what its start raised."""
        assert self._start is not None, "within running() only"
        await asyncio.shield(self._start)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the engine beside the caller, watch it, and stop it at the end."""
        self._start = asyncio.create_task(self._begin())
        watch = asyncio.create_task(self._watch(self._start))
        try:
            yield
        finally:
            for task in (watch, self._start):
                task.cancel()
            await asyncio.gather(watch, self._start, return_exceptions=True)
            self.up = dict.fromkeys(self.up, False)
            self._metrics.engines(self.up, ready=False)
            await self._engine.stop()

    async def _begin(self) -> None:
        await self._engine.start()
        await self._probe()

    async def _watch(self, start: asyncio.Task[None]) -> None:
        await asyncio.wait((start,))
        if start.cancelled() or (error := start.exception()) is not None:
            if not start.cancelled() and error is not None:
                self._log.error("engine_start_failed", **described(error))
            return
        while True:
            await asyncio.sleep(self._pause)
            await self._probe()

    async def _probe(self) -> None:
        up = dict.fromkeys(self.up, False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                try:
                    up |= {k: v for k, v in (await self._engine.healthy()).items() if k in up}
                except Exception as error:  # an engine that breaks its promise is not healthy
                    if isinstance(error, TimeoutError):
                        raise
                    self._log.error("probe_failed", **described(error))
        self._report(up)

    def _report(self, up: dict[int, bool]) -> None:
        if up != self.up:
            say = self._log.info if all(up.values()) else self._log.warning
            say("engines", up=[k for k in up if up[k]], down=[k for k in up if not up[k]])
        self.up = up
        self._metrics.engines(up, self.ready)
