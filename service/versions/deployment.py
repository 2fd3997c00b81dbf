"""A bundle in service: its engines and everything that answers over it, from the start of the engines to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from browsing.bundle import Bundle
from service.health import Health
from service.metrics import BundleMetrics
from service.pipeline import Pipeline
from service.schemas import PredictRequest, PredictResponse
from service.scoring.served import VersionGone
from service.versions.embedders import Lease


def name_of(bundle: Bundle) -> str:
    """Of its folder."""
    return bundle.root.resolve().name


class Deployment:
    """Knows how many requests it works on, so that it can end after the last of them.

    `name`: of the bundle's folder. `warm`: asks for a real forecast of every cluster, and raises what goes wrong.
    `ends`: called once it has stopped.
    """

    def __init__(
        self,
        bundle: Bundle,
        pipeline: Pipeline,
        health: Health,
        warm: Callable[[], Awaitable[None]],
        lease: Lease,
        ends: Sequence[Callable[[], None]],
        metrics: BundleMetrics,
    ) -> None:
        self.name = name_of(bundle)
        self.bundle = bundle
        self.pipeline = pipeline
        self.health = health
        self.warm = warm
        self.metrics = metrics
        self._lease = lease
        self._ends = ends
        self.under_way = 0
        """Requests that it was given and has not answered; no rows of files."""
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._retired = asyncio.Event()

    @property
    def version(self) -> str:
        return self.bundle.manifest.version

    async def answer(self, request: PredictRequest, request_id: str, *, patient: bool = False) -> PredictResponse:
        """As `Pipeline.answer`."""
        self.under_way += 1
        self._quiet.clear()
        try:
            return await self.pipeline.answer(request, request_id, patient=patient)
        finally:
            self.under_way -= 1
            if not self.under_way:
                self._quiet.set()

    async def answer_row(self, request: PredictRequest, request_id: str) -> PredictResponse:
        """The same for a row of a file, which is in no hurry and holds up no retirement. Raises `VersionGone` from
        `retire` on, also if it is under way then."""
        working = asyncio.ensure_future(self.pipeline.answer(request, request_id, patient=True))
        retiring = asyncio.ensure_future(self._retired.wait())
        try:
            await asyncio.wait((working, retiring), return_when=asyncio.FIRST_COMPLETED)
            if self._retired.is_set():
                raise VersionGone
            return working.result()
        finally:
            for task in (working, retiring):
                task.cancel()
            await asyncio.gather(working, retiring, return_exceptions=True)

    async def retire(self, seconds: float) -> int:
        """No new request is coming: returns when nothing is under way, or after so long; how many are left then."""
        self._retired.set()
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            pass
        return self.under_way

    async def stop(self) -> None:
        """Release everything, whatever fails on the way. Raises what the engine's stop raises."""
        self._retired.set()
        try:
            await self.health.end()
        finally:
            for end in self._ends:
                end()
            await self._lease.release()
