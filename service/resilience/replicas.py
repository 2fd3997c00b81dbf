"""The port of an engine that may have several servers for one cluster, and any other engine behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from browsing.engine import Engine, EngineError, GenerateRequest, Path
from browsing.vocabulary import BOS

PROBE_SECONDS = 5.0

Tell = Callable[[int | None], None]
"""Takes the cluster that answers again; None: all of them."""


def nobody(_: int | None) -> None:
    """Is told where nobody has asked to be."""


@runtime_checkable
class Returning(Protocol):
    """An engine that is started anew when it dies, and says when it is back, so that nobody has to find out."""

    def on_return(self, tell: Tell) -> None:
        """`tell` is called, in the event loop, whenever a new engine has given its first real token and takes requests.
        It returns at once and raises nothing. A later one takes the place of an earlier one."""


@runtime_checkable
class Replicated(Protocol):
    """Replicas of a cluster are numbered from 0."""

    async def start(self) -> None:
        """Returns when one replica of every cluster has answered. Raises `EngineError`."""

    def replicas(self, cluster: int) -> int:
        """How many servers this cluster has; at least 1."""

    async def generate_on(self, replica: int, request: GenerateRequest) -> list[Path]:
        """As `Engine.generate`, from this replica of `request.cluster`."""

    async def probe(self, cluster: int, replica: int) -> None:
        """Ask for a real token, and whether it is still the right model. Raises `EngineError` where it is not well."""

    async def healthy_replicas(self) -> dict[int, list[bool]]:
        """As `Engine.healthy`, for every replica."""

    async def stop(self) -> None:
        """Release everything; idempotent."""


class Single:
    """`Replicated` over an engine with one place per cluster."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def start(self) -> None:
        await self._engine.start()

    def replicas(self, cluster: int) -> int:
        return 1

    async def generate_on(self, replica: int, request: GenerateRequest) -> list[Path]:
        return await self._engine.generate(request)

    async def probe(self, cluster: int, replica: int) -> None:
        request = GenerateRequest(cluster, (BOS,), 1, 1, greedy=True, deadline=PROBE_SECONDS)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._engine.generate(request)
        except TimeoutError:
            raise EngineError("no token within the time of a probe") from None

    async def healthy_replicas(self) -> dict[int, list[bool]]:
        return {cluster: [up] for cluster, up in (await self._engine.healthy()).items()}

    async def stop(self) -> None:
        await self._engine.stop()
