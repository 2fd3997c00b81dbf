"""Another bundle takes over, or gets a share of the users, while requests go on; and back again in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from browsing.bundle import Bundle
from browsing.engine import EngineError
from service.logs import described
from service.metrics import Metrics
from service.problems import ProblemError
from service.versions.deployment import Deployment
from service.versions.fleet import Fleet
from service.versions.memory import Memory, Remembered, RememberedCanary
from service.versions.registry import SHORTEST, Found, Registry, UnknownVersion
from service.versions.router import Router
from service.versions.steps import Failure, StepFailed, Steps

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. `prepare`: for all steps before the first request. `drain`: for the requests of the one that goes."""

    prepare: float
    drain: float


@dataclass(frozen=True, slots=True)
class Done:
    """`unfinished`: requests that the deployment that went had not answered when the time for draining was over."""

    changed: bool
    steps: Steps
    unfinished: int = 0


class Rollouts:
    """One at a time. Each runs in a task of its own, which outlives the caller who asked for it.

    A failure at any step leaves everything as it was, and releases what the new deployment had taken. `failures`: how
    the last rollout of a folder failed. `refusal`: why there can be none here.
    """

    def __init__(
        self,
        router: Router,
        fleet: Fleet,
        registry: Registry,
        memory: Memory,
        deploy: Callable[[Bundle], Awaitable[Deployment]],
        limits: Limits,
        metrics: Metrics,
        log: FilteringBoundLogger,
        *,
        refusal: str | None = None,
    ) -> None:
        """`deploy`: makes what answers over a verified bundle; nothing of it runs yet. Raises what does not fit."""
        self.router = router
        self.registry = registry
        self._fleet = fleet
        self._memory = memory
        self._deploy = deploy
        self._limits = limits
        self._metrics = metrics
        self._log = log
        self._refusal = refusal
        self._task: asyncio.Task[Done] | None = None
        self.steps: Steps | None = None
        """Of the rollout under way."""
        self.wanted = ""
        """Its folder's name, once that is known."""
        self.failures: dict[str, Failure] = {}

    @property
    def held(self) -> list[Deployment]:
        """All deployments that have not ended."""
        return self._fleet.held

    @asynccontextmanager
    async def running(self, canary: tuple[str, float] | None) -> AsyncIterator[None]:
        """Until the end of the block rollouts are taken. Once the first bundle's engines have started it is remembered,
        if none was before, and `canary` (its name and share) is begun; where that fails the log says why."""
        beginning = asyncio.create_task(self._begin(canary))
        try:
            yield
        finally:
            tasks = [task for task in (beginning, self._task) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def activate(self, wanted: str) -> Done:
        """`wanted` answers everybody but a canary's users; returns when the one before has stopped. Nothing changes if
        it does already. A canary that is activated takes over as it is.

        Raises `ProblemError`: 404, 409 while another rollout is under way, 500 naming the step that failed and why.
        """
        return await self._alone(lambda steps: self._activate(wanted, steps))

    async def canary(self, wanted: str, share: float) -> Done:
        """`wanted` answers `share` of the users beside the bundle that is served; 0 ends it. Raises as `activate`, and
        409 for the bundle that is served, or beside another canary."""
        return await self._alone(lambda steps: self._canary(wanted, share, steps))

    async def _alone(self, work: Callable[[Steps], Awaitable[Done]]) -> Done:
        if self._refusal is not None:
            raise ProblemError("rollout-conflict", self._refusal)
        if self.router.serving.health.starting:
            raise ProblemError("rollout-conflict", "The service itself is still starting: wait until /readyz says yes.")
        if self._task is not None and not self._task.done():
            raise ProblemError(
                "rollout-conflict",
                "Another rollout is under way: GET /admin/bundles says which, and how far it is. Wait for its end.",
            )
        task = self._task = asyncio.create_task(self._told(work))
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise  # the caller left; the rollout goes on
            raise ProblemError("not-ready", "The service stopped before the rollout had ended.") from None

    def _ended(self, task: asyncio.Task[Done]) -> None:
        """Who asked may have left; asyncio would complain about an exception that nobody heard of. And a task that is
        kept keeps its exception, with all that led there."""
        if not task.cancelled():
            task.exception()
        if self._task is task:
            self._task = None

    async def _told(self, work: Callable[[Steps], Awaitable[Done]]) -> Done:
        """The outcome of `work`, for the caller, the log and the metrics."""
        steps = self.steps = Steps()
        self.wanted = ""
        try:
            done = await work(steps)
        except StepFailed as failed:
            self.failures[self.wanted] = Failure(failed.step, failed.reason)
            self._metrics.rollout(done=False)
            cause = failed.__cause__ or failed
            self._log.error("rollout_failed", name=self.wanted, step=failed.step, **described(cause))
            raise ProblemError(
                "rollout-failed",
                f"{self.wanted}: the step {failed.step} failed: {failed.reason}. Nothing has changed: "
                f"{self.router.serving.name} is served.",
            ) from None
        finally:
            self.steps = None
        self.failures.pop(self.wanted, None)
        if done.changed:
            self._metrics.rollout(done=True)
            seconds = {name: round(took, 3) for name, took in steps.took.items()}
            canary = self.router.canary.version if self.router.canary is not None else None
            standing = {"serving": self.router.serving.version, "canary": canary, "share": self.router.share}
            self._log.info("rollout_done", name=self.wanted, seconds=seconds, **standing)
        return done

    async def _activate(self, wanted: str, steps: Steps) -> Done:
        found = await self._find(wanted, steps)
        canary = self.router.canary
        if found.version == self.router.serving.version:
            return Done(False, steps)
        if canary is not None and found.version == canary.version:
            async with self._within(self._limits.prepare, steps):
                await self._warm(canary, steps)
            await self._remember(canary, None, steps)
            return await self._retire(self.router.promote(canary), steps)
        new = await self._prepare(found, steps)
        await self._or_stop(new, self._remember(new, canary, steps))
        return await self._retire(self.router.promote(new), steps)

    async def _canary(self, wanted: str, share: float, steps: Steps, *, first: bool = False) -> Done:
        """`first`: as it was asked for at the start, which is no news to remember."""
        canary = self.router.canary
        if canary is not None and not share and _called(canary, wanted):
            self.wanted = canary.name  # and not what is in its folder, which may be damaged or gone
            return await self._end(canary, steps)
        found = await self._find(wanted, steps)
        if canary is not None and found.version == canary.version:
            if share == self.router.share:
                return Done(False, steps)
            if not share:
                return await self._end(canary, steps)
            await self._remember(self.router.serving, canary, steps, share)
            self.router.split(canary, share)
            return Done(True, steps)
        if not share:
            return Done(False, steps)
        if found.version == self.router.serving.version:
            raise ProblemError("rollout-conflict", "This bundle is served to everybody: it cannot be its own canary.")
        if canary is not None:
            raise ProblemError(
                "rollout-conflict", f"Another canary is on its way: end it first ({canary.name}, with the share 0)."
            )
        new = await self._prepare(found, steps)
        if not first:
            await self._or_stop(new, self._remember(self.router.serving, new, steps, share))
        self.router.split(new, share)
        return Done(True, steps)

    async def _end(self, canary: Deployment, steps: Steps) -> Done:
        await self._remember(self.router.serving, None, steps, 0.0)
        self.router.end_canary()
        return await self._retire(canary, steps)

    async def _find(self, wanted: str, steps: Steps) -> Found:
        self.wanted = wanted
        try:
            with steps.step("find"):
                found = await asyncio.to_thread(self.registry.find, wanted)
        except StepFailed as failed:
            if isinstance(failed.__cause__, UnknownVersion):
                self.wanted = ""
                message = str(failed.__cause__)
                raise ProblemError("no-such-bundle", message[:1].upper() + message[1:] + ".") from None
            raise
        self.wanted = found.name
        return found

    async def _prepare(self, found: Found, steps: Steps) -> Deployment:
        """A deployment that has answered for every cluster. Raises `StepFailed`, and then nothing of it is left."""
        async with self._within(self._limits.prepare, steps):
            with steps.step("load"):
                bundle = await asyncio.to_thread(Bundle.load, found.root, found.version)
            with steps.step("fit"):
                new = await self._deploy(bundle)
            self._fleet.begin(new)
            await self._or_stop(new, self._started(new, steps))
        return new

    async def _started(self, new: Deployment, steps: Steps) -> None:
        with steps.step("start"):
            await new.health.started()
            if new.health.down:
                raise EngineError(f"the engine of cluster {new.health.down[0]} started, and does not answer")
        await self._warm(new, steps)

    async def _warm(self, deployment: Deployment, steps: Steps) -> None:
        with steps.step("warm"):
            await deployment.warm()

    async def _remember(
        self, serving: Deployment, canary: Deployment | None, steps: Steps, share: float | None = None
    ) -> None:
        """Before anything changes: what cannot be remembered would be undone by the next restart."""
        share = self.router.share if share is None else share
        beside = RememberedCanary(name=canary.name, version=canary.version, share=share) if canary is not None else None
        with steps.step("remember"):
            await asyncio.to_thread(self._memory.write, Remembered(name=serving.name, version=serving.version), beside)

    async def _retire(self, old: Deployment, steps: Steps) -> Done:
        """What it was given it answers; then it stops. The new one serves whatever happens here."""
        with steps.step("drain"):
            unfinished = await old.retire(self._limits.drain)
        with steps.step("stop"):
            await self._fleet.stop(old)
        return Done(True, steps, unfinished)

    async def _or_stop(self, new: Deployment, work: Awaitable[T]) -> T:
        """`work`; where it fails, or is called off, `new` is stopped."""
        try:
            return await work
        except BaseException:
            await self._fleet.stop(new)
            raise

    @asynccontextmanager
    async def _within(self, seconds: float, steps: Steps) -> AsyncIterator[None]:
        """Raises `StepFailed` where the time is over."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            reason = f"not done {seconds:g} seconds after the beginning (HETLM_ROLLOUT_SECONDS)"
            raise StepFailed(steps.current, reason) from None

    async def _begin(self, canary: tuple[str, float] | None) -> None:
        serving = self.router.serving
        try:
            await serving.health.started()
        except Exception:
            return  # without an engine the service ends, and says why
        try:
            if await asyncio.to_thread(self._memory.read) is None:
                await self._remember(serving, None, Steps())
        except Exception as error:
            self._log.warning("bundle_not_remembered", name=serving.name, **described(error))
        if canary is not None:
            try:
                await self._alone(lambda steps: self._canary(*canary, steps, first=True))
            except ProblemError as problem:
                self._log.error("canary_failed", name=canary[0], why=problem.detail)


def _called(deployment: Deployment, wanted: str) -> bool:
    """Whether that is its folder's name, or its version, or enough of that."""
    return wanted == deployment.name or (len(wanted) >= SHORTEST and deployment.version.startswith(wanted))
