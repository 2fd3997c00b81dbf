"""Another bundle takes over, or gets a share of the users, while requests go on; and back again in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from browsing.bundle import Bundle
from service.logs import described
from service.metrics import Metrics
from service.problems import ProblemError
from service.versions.deciding import Deciding
from service.versions.deployment import Deployment
from service.versions.fleet import Fleet
from service.versions.memory import Memory
from service.versions.preparing import Preparing
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

    A failure at any step leaves everything as it was, and releases what the new deployment had taken; so does the end
    of the service. `failures`: how the last rollout of a folder failed. `refusal`: why there can be none here.
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
        """`deploy`: see `Preparing`."""
        self.router = router
        self.registry = registry
        self._fleet = fleet
        self._deciding = Deciding(memory)
        self._preparing = Preparing(fleet, deploy, limits.prepare)
        self._drain_seconds = limits.drain
        self._metrics = metrics
        self._log = log
        self._refusal = refusal
        self._task: asyncio.Task[Done] | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._closed = False
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
        """Until `close`, or the end of the block, rollouts are taken. Once the first bundle's engines have started it
        is remembered, if none was before, and `canary` (its name and share) is begun; where that fails the log says
        why."""
        if not self._closed:  # told to end before it began: nothing may wait for engines that start
            self._beginning = asyncio.create_task(self._begin(canary))
        try:
            yield
        finally:
            self.close()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def close(self) -> None:
        """The service is about to end. From now on no rollout is taken, and the one under way is given up: what it has
        started is stopped, and what is served goes on being served. One that has changed the router has changed it, and
        leaves to the end of all what it had still to stop. Nothing happens the second time."""
        if not self._closed:
            self._closed = True
            for task in self._under_way:
                task.cancel()

    @property
    def _under_way(self) -> list[asyncio.Task[None] | asyncio.Task[Done]]:
        return [task for task in (self._beginning, self._task) if task is not None]

    async def activate(self, wanted: str) -> Done:
        """`wanted` answers everybody but a canary's users; returns when the one before has stopped. Nothing changes if
        it does already. A canary that is activated takes over as it is.

        Raises `ProblemError`: 404, 409 while another rollout is under way, 500 naming the step that failed and why, 503
        where the service ends.
        """
        return await self._alone(lambda steps: self._activate(wanted, steps))

    async def canary(self, wanted: str, share: float) -> Done:
        """`wanted` answers `share` of the users beside the bundle that is served; 0 ends it. Raises as `activate`, and
        409 for the bundle that is served, or beside another canary."""
        return await self._alone(lambda steps: self._canary(wanted, share, steps))

    async def _alone(self, work: Callable[[Steps], Awaitable[Done]]) -> Done:
        if self._closed:
            raise ProblemError(
                "not-ready", "The service is about to end, and takes no rollout: ask the one that comes after it."
            )
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
            raise ProblemError(
                "not-ready",
                f"The service is about to end, and gave the rollout up: {self.router.serving.name} is served.",
            ) from None

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
            await self._preparing.warm(canary, steps)
            promote = partial(self.router.promote, canary)
            old = await self._deciding.decide(canary, None, 0.0, steps, promote)
        else:
            new = await self._preparing.prepare(found, steps)
            promote = partial(self.router.promote, new)
            old = await self._or_stop(new, self._deciding.decide(new, canary, self.router.share, steps, promote))
        return await self._retire(old, steps)

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
            split = partial(self.router.split, canary, share)
            await self._deciding.decide(self.router.serving, canary, share, steps, split)
            return Done(True, steps)
        if not share:
            return Done(False, steps)
        if found.version == self.router.serving.version:
            raise ProblemError("rollout-conflict", "This bundle is served to everybody: it cannot be its own canary.")
        if canary is not None:
            raise ProblemError(
                "rollout-conflict", f"Another canary is on its way: end it first ({canary.name}, with the share 0)."
            )
        new = await self._preparing.prepare(found, steps)
        split = partial(self.router.split, new, share)
        if first:
            split()
        else:
            await self._or_stop(new, self._deciding.decide(self.router.serving, new, share, steps, split))
        return Done(True, steps)

    async def _end(self, canary: Deployment, steps: Steps) -> Done:
        await self._deciding.decide(self.router.serving, None, 0.0, steps, self.router.end_canary)
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

    async def _retire(self, old: Deployment, steps: Steps) -> Done:
        """What it was given it answers; then it stops. The new one serves whatever happens here."""
        with steps.step("drain"):
            unfinished = await old.retire(self._drain_seconds)
        with steps.step("stop"):
            await self._fleet.stop(old)
        return Done(True, steps, unfinished)

    async def _or_stop(self, new: Deployment, work: Awaitable[T]) -> T:
        """`work`; where it fails, or is called off, `new` is stopped, unless it serves by then."""
        try:
            return await work
        except BaseException:
            if new not in (self.router.serving, self.router.canary):
                await self._fleet.stop(new)
            raise

    async def _begin(self, canary: tuple[str, float] | None) -> None:
        serving = self.router.serving
        try:
            await serving.health.started()
        except Exception:
            return  # without an engine the service ends, and says why
        try:
            if await self._deciding.undecided():
                await self._deciding.remember(serving, None, 0.0)
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
