"""From a bundle in its folder to a deployment that has answered for every cluster: or nothing of it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from browsing.bundle import Bundle
from browsing.engine import EngineError
from service.versions.deployment import Deployment
from service.versions.fleet import Fleet
from service.versions.registry import Found
from service.versions.steps import StepFailed, Steps


class Preparing:
    """`deploy`: makes what answers over a verified bundle; nothing of it runs yet. Raises what does not fit. `seconds`:
    for all of it."""

    def __init__(self, fleet: Fleet, deploy: Callable[[Bundle], Awaitable[Deployment]], seconds: float) -> None:
        self._fleet = fleet
        self._deploy = deploy
        self._seconds = seconds

    async def prepare(self, found: Found, steps: Steps) -> Deployment:
        """Raises `StepFailed`; then, and where it is called off, nothing of the deployment is left."""
        async with self._in_time(steps):
            with steps.step("load"):
                bundle = await asyncio.to_thread(Bundle.load, found.root, found.version)
            with steps.step("fit"):
                new = await self._deploy(bundle)
            self._fleet.begin(new)
            try:
                with steps.step("start"):
                    await new.health.started()
                    if new.health.down:
                        raise EngineError(f"the engine of cluster {new.health.down[0]} started, and does not answer")
                await _warmed(new, steps)
            except BaseException:
                await self._fleet.stop(new)
                raise
        return new

    async def warm(self, running: Deployment, steps: Steps) -> None:
        """The last of these steps alone, for one that runs. Raises `StepFailed`."""
        async with self._in_time(steps):
            await _warmed(running, steps)

    @asynccontextmanager
    async def _in_time(self, steps: Steps) -> AsyncIterator[None]:
        """Raises `StepFailed` where the time is over."""
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            reason = f"not done {self._seconds:g} seconds after the beginning (HETLM_ROLLOUT_SECONDS)"
            raise StepFailed(steps.current, reason) from None


async def _warmed(deployment: Deployment, steps: Steps) -> None:
    with steps.step("warm"):
        await deployment.warm()
