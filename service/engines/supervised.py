"""The engine of this process under a supervisor, which builds it anew when it dies or is stuck."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from browsing.engine import Engine, EngineDown, EngineError, GenerateRequest, Path
from browsing.engines.job import Waited
from service.engines.queueing import Queueing
from service.resilience.backoff import Backoff, Restarts
from service.resilience.replicas import Tell, nobody

logger = logging.getLogger(__name__)

SILENT = 3
"""Health checks in a row that nobody answers: whatever the engine is doing, it does not come back by itself."""
HEALTH_SECONDS = 10.0
"""How long one may take. (The embedded engine bounds its own below this.)"""
STOP_SECONDS = 5.0
"""How long an engine may take to stop: it looks up between two steps of a generation."""
LONGEST_PAUSE = 30.0
LONG_LIFE = 10.0
"""Seconds after which an engine's death has nothing to do with that of the one before. Building one takes about one."""


class SupervisedEngine:
    """`browsing.engine.Engine` over one that `make` builds.

    One that says that it is gone (`EngineDown`), or stays silent for every cluster, is replaced: at once the first
    time, and with growing pauses where the new one dies soon too or cannot be built; until then requests raise
    `EngineDown` at once. Who asked for it is told when the new one has answered (it is a
    `service.resilience.replicas.Returning`). The old one is told to stop. One that does not, because its thread is
    stuck, is left behind: a thread cannot be killed, but neither the next engine nor the end of the process waits for
    it.
    """

    def __init__(
        self,
        make: Callable[[], Engine],
        *,
        generator: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`generator`: of the pauses' random part. `clock`: seconds that never jump. `pause`: waits for seconds."""
        self._make = make
        self._restarts = Restarts(Backoff(generator or random.Random(), most=LONGEST_PAUSE), LONG_LIFE)
        self._clock = clock
        self._pause = pause
        self._engine: Engine | None = None
        self._built = 0.0
        self._tell: Tell = nobody
        self._waited: Waited | None = None
        self._started = False
        self._silent = 0
        self._left_behind = 0
        self._rebuilding: asyncio.Task[None] | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    def on_return(self, tell: Tell) -> None:
        self._tell = tell

    def on_wait(self, tell: Waited) -> None:
        """Of every engine that is built from now on, if it is a `Queueing`."""
        self._waited = tell

    async def start(self) -> None:
        """Raises `EngineError`: an engine that never ran is no accident. Nothing happens if it is running."""
        if self._started:
            return
        engine = self._made()
        try:
            await engine.start()
        except BaseException:  # also where the caller gives up: its thread may be running already
            await self._stop(engine)
            raise
        self._engine, self._built, self._started = engine, self._clock(), True

    async def generate(self, request: GenerateRequest) -> list[Path]:
        engine = self._engine
        if engine is None:
            raise EngineDown("the engine is not running")
        try:
            paths = await engine.generate(request)
        except EngineDown:
            self._replace(engine)
            raise
        if self._engine is engine:
            self._silent = 0  # it answers: a health check only waits behind long work
        return paths

    async def healthy(self) -> dict[int, bool]:
        engine = self._engine
        if engine is None:
            return {}
        up: dict[int, bool] = {}
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                up = await engine.healthy()
        except TimeoutError:
            logger.warning("the engine does not answer a health check")
        if self._engine is engine:
            self._silent = 0 if any(up.values()) else self._silent + 1
            if self._silent >= SILENT:
                self._replace(engine)
        return up

    async def stop(self) -> None:
        """Returns after twice `STOP_SECONDS` at the latest."""
        self._started = False
        if self._rebuilding is not None:
            self._rebuilding.cancel()
            await asyncio.gather(self._rebuilding, return_exceptions=True)
            self._rebuilding = None
        engine, self._engine = self._engine, None
        if engine is not None:
            await self._stop(engine)
        await asyncio.gather(*self._stopping)

    def _made(self) -> Engine:
        engine = self._make()
        if self._waited is not None and isinstance(engine, Queueing):
            engine.on_wait(self._waited)
        return engine

    def _replace(self, dead: Engine) -> None:
        if self._engine is not dead or not self._started:
            return  # somebody else has seen it before
        self._engine = None
        self._silent = 0
        stopping = asyncio.create_task(self._stop(dead))
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)
        self._rebuilding = asyncio.create_task(self._rebuild())

    async def _stop(self, engine: Engine) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await engine.stop()
        except TimeoutError:
            self._left_behind += 1
            logger.error(
                "the engine does not stop within %g s: its thread is left behind with the memory that it holds "
                "(%d so far); restart the service when there is time",
                STOP_SECONDS,
                self._left_behind,
            )
        except Exception as error:
            logger.warning("the engine failed to stop: %s", _described(error))

    async def _rebuild(self) -> None:
        died = self._clock()
        seconds = self._restarts.died(died - self._built)
        logger.warning("the engine is gone; building it anew in %.1f s", seconds)
        while True:
            if seconds:
                await self._pause(seconds)
            engine: Engine | None = None
            try:
                engine = self._made()
                await engine.start()
            except asyncio.CancelledError:
                if engine is not None:
                    await self._stop(engine)
                raise
            except Exception as error:  # also one that no engine should raise: nobody else would try again
                seconds = self._restarts.failed()
                logger.warning("it cannot be built: %s; trying again in %.1f s", _described(error), seconds)
                if engine is not None:
                    await self._stop(engine)
            else:
                self._engine, self._built = engine, self._clock()
                logger.warning("the engine runs again, %.1f s after its death", self._built - died)
                self._tell(None)
                return


def _described(error: Exception) -> str:
    """Only engines' own errors are known to quote nobody's history."""
    return str(error) if isinstance(error, EngineError) else type(error).__name__
