"""The deployments whose engines run: all are stopped in the end, whatever happened on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from structlog.typing import FilteringBoundLogger

from service.logs import described
from service.versions.deployment import Deployment

STOP_SECONDS = 60.0
"""Engines that have not stopped by then are left to themselves; nothing waits for them any more."""


class Fleet:
    """Starts and stops deployments. For one event loop."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self.held: list[Deployment] = []

    def begin(self, deployment: Deployment) -> None:
        """Start its engines beside the caller."""
        self.held.append(deployment)
        deployment.health.begin()

    async def stop(self, deployment: Deployment) -> None:
        """Raises nothing: what cannot be stopped is logged."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await deployment.stop()
        except Exception as error:
            self._log.error("bundle_not_stopped", bundle=deployment.version, **described(error))
        self.held.remove(deployment)

    @asynccontextmanager
    async def running(self, first: Deployment) -> AsyncIterator[None]:
        """From the start of `first` to the end of all."""
        self.begin(first)
        try:
            yield
        finally:
            await asyncio.gather(*map(self.stop, list(self.held)))
