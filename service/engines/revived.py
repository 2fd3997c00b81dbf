"""An engine of this process that is built anew when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from browsing.engine import Engine, EngineDown, EngineError, GenerateRequest, Path
from service.resilience.backoff import Backoff

logger = logging.getLogger(__name__)

SILENT = 3
"""Health checks in a row that nobody answers: whatever the engine is doing, it does not come back by itself."""
LONGEST_PAUSE = 30.0


class RevivedEngine:
    """`browsing.engine.Engine` over one that `make` builds.

    One that says that it is gone (`EngineDown`), or stays silent for every cluster, is replaced by a new one, with
    growing pauses where that fails; until then requests raise `EngineDown` at once. The old one is told to stop, and is
    not waited for: what is stuck cannot be joined.
    """

    def __init__(self, make: Callable[[], Engine], *, generator: random.Random | None = None) -> None:
        """`generator`: of the pauses' random part."""
        self._make = make
        self._backoff = Backoff(generator or random.Random(), most=LONGEST_PAUSE)
        self._engine: Engine | None = None
        self._started = False
        self._silent = 0
        self._reviving: asyncio.Task[None] | None = None
        self._burials: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises `EngineError`: an engine that never ran is no accident. Nothing happens if it is running."""
        if self._started:
            return
        engine = self._make()
        await engine.start()
        self._engine, self._started = engine, True

    async def generate(self, request: GenerateRequest) -> list[Path]:
        engine = self._engine
        if engine is None:
            raise EngineDown("the engine is not running")
        try:
            return await engine.generate(request)
        except EngineDown:
            self._replace(engine)
            raise

    async def healthy(self) -> dict[int, bool]:
        engine = self._engine
        if engine is None:
            return {}
        up = await engine.healthy()
        self._silent = 0 if any(up.values()) else self._silent + 1
        if self._silent >= SILENT:
            self._replace(engine)
        return up

    async def stop(self) -> None:
        self._started = False
        if self._reviving is not None:
            self._reviving.cancel()
            await asyncio.gather(self._reviving, return_exceptions=True)
            self._reviving = None
        for burial in self._burials:
            burial.cancel()
        await asyncio.gather(*self._burials, return_exceptions=True)
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()

    def _replace(self, dead: Engine) -> None:
        if self._engine is not dead or not self._started:
            return  # somebody else has seen it before
        self._engine = None
        self._silent = 0
        burial = asyncio.create_task(self._bury(dead))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)
        self._reviving = asyncio.create_task(self._revive())

    async def _bury(self, dead: Engine) -> None:
        with contextlib.suppress(Exception):
            await dead.stop()

    async def _revive(self) -> None:
        logger.warning("the engine is gone; building it anew")
        self._backoff.reset()
        while True:
            engine: Engine | None = None
            try:
                engine = self._make()
                await engine.start()
            except asyncio.CancelledError:
                if engine is not None:
                    await self._bury(engine)
                raise
            except Exception as error:  # also one that no engine should raise: nobody else would try again
                pause = self._backoff.next()
                said = str(error) if isinstance(error, EngineError) else type(error).__name__
                logger.warning("it cannot be built: %s; trying again in %.1f s", said, pause)
                if engine is not None:
                    await self._bury(engine)
                await asyncio.sleep(pause)
            else:
                self._engine = engine
                logger.warning("the engine runs again")
                return
