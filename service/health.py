"""Whether the service is ready: engines are started once, then asked for a real token again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from browsing.engine import Engine
from service.logs import described
from service.metrics import BundleMetrics

PATIENCE = 15.0
"""Seconds that one round of probes may take; engines bound their own probes below this."""


class Health:
    """Of one bundle's engines, which it starts and stops. `ready`: some cluster answers. One that does not is no reason
    to send its visitors and all others away: they are answered around it."""

    def __init__(
        self, engine: Engine, clusters: int, metrics: BundleMetrics, log: FilteringBoundLogger, probe_seconds: float
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._log = log
        self._pause = probe_seconds
        self.up: dict[int, bool] = dict.fromkeys(range(clusters), False)
        self._start: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def starting(self) -> bool:
        return self._start is None or not self._start.done()

    @property
    def ready(self) -> bool:
        return any(self.up.values())

    @property
    def down(self) -> list[int]:
        """The clusters that do not answer."""
        return [cluster for cluster, up in self.up.items() if not up]

    def begin(self) -> None:
        """Start the engine beside the caller, and watch it until `end`."""
        self._start = asyncio.create_task(self._begin())
        self._watch = asyncio.create_task(self._watching(self._start))

    async def started(self) -> None:
        """Returns when the engine is started and was probed once. Raises what its start raised."""
        assert self._start is not None, "between begin() and end() only"
        await asyncio.shield(self._start)

    async def end(self) -> None:
        """Stop the engine. Raises what its stop raises."""
        tasks = [task for task in (self._watch, self._start) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.up = dict.fromkeys(self.up, False)
        self._metrics.engines(self.up)
        await self._engine.stop()

    async def _begin(self) -> None:
        await self._engine.start()
        await self._probe()

    async def _watching(self, start: asyncio.Task[None]) -> None:
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
        self._metrics.engines(up)


class Readiness:
    """What `/readyz` says: whether the bundle that is served answers, and no end is near. A canary's engines do not
    count: its users are few, and are answered around them."""

    def __init__(self, serving: Callable[[], Health]) -> None:
        """`serving`: the health of the bundle that is served now."""
        self._serving = serving
        self.draining = False

    @property
    def starting(self) -> bool:
        return self._serving().starting

    @property
    def ready(self) -> bool:
        return not self.draining and self._serving().ready

    @property
    def down(self) -> list[int]:
        """The clusters that do not answer."""
        return self._serving().down

    def drain(self) -> None:
        """The service is about to stop: not ready from now on."""
        self.draining = True

    async def started(self) -> None:
        """Returns when the first bundle's engine is started. Raises what its start raised."""
        await self._serving().started()
