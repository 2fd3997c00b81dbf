"""Start the processes in their order, keep them running, and stop them in the opposite one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local.model import Model
from deploy.local.translate import Process
from service.engines.child import Child

_LONGEST_PAUSE = 60.0


class StartError(RuntimeError):
    """A process that did not come up; the message has the last lines of its log."""


class Running:
    """One process and its state. `healthy`: set while its health check says so; at once where it has none."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self.child = Child(process.command, process.environment, log, grace=process.grace)
        self.healthy = asyncio.Event()
        self.starts = 0
        self._watch: asyncio.Task[None] | None = None
        self._keep: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises `OSError`."""
        await self._launch()
        self._keep = asyncio.create_task(self._keep_running())

    async def until_healthy(self) -> None:
        """Raises `StartError` where its health check gives up, or it ends, before it was healthy."""
        healthy = asyncio.create_task(self.healthy.wait())
        assert self._watch is not None, "after start() only"
        done, _ = await asyncio.wait({healthy, self._watch}, return_when=asyncio.FIRST_COMPLETED)
        if healthy in done or self.healthy.is_set():
            return
        healthy.cancel()
        raise StartError(f"{self.process.name} did not become healthy:\n{self.child.last_words()}")

    async def stop(self) -> None:
        for task in (self._keep, self._watch):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self.healthy.clear()
        await self.child.stop()

    async def _launch(self) -> None:
        self.starts += 1
        await self.child.start()
        self._watch = asyncio.create_task(self._check())

    async def _keep_running(self) -> None:
        """`restart: always`."""
        pause = 1.0
        while True:
            await self.child.ended()
            self.healthy.clear()
            if self._watch is not None:
                self._watch.cancel()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            await self.child.stop()
            await self._launch()

    async def _check(self) -> None:
        """Returns when the container would be called unhealthy before it ever was healthy, or has ended."""
        health = self.process.health
        if health is None:
            self.healthy.set()
            await self.child.ended()
            return
        loop = asyncio.get_running_loop()
        started, failures, ever = loop.time(), 0, False
        while ever or failures < max(health.retries, 1):
            ended = asyncio.create_task(self.child.ended())
            well = await self._well(health.test, health.timeout)
            failures = 0 if well else failures + 1
            if well or failures >= max(health.retries, 1):
                self.healthy.set() if well else self.healthy.clear()
            ever = ever or well
            young = not ever and loop.time() - started < health.start_period
            if young:
                failures = 0
            await asyncio.wait({ended}, timeout=health.start_interval if young else health.interval)
            over = ended.done()
            ended.cancel()
            if over:
                return

    async def _well(self, command: Sequence[str], timeout: float) -> bool:
        check = await asyncio.create_subprocess_exec(
            *command,
            env=self.process.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(timeout):
                return await check.wait() == 0
        except TimeoutError:
            return False
        finally:
            if check.returncode is None:
                check.kill()
                await check.wait()


@asynccontextmanager
async def running(
    model: Model, processes: Mapping[str, Process], logs: Path, say: Callable[[str, str], None]
) -> AsyncIterator[dict[str, Running]]:
    """All processes, once everyone is healthy. `logs`: a folder. `say`: told a service's name and its news. Raises
    `StartError`."""
    up: dict[str, Running] = {}
    try:
        for name in model.order():
            if name not in processes:
                say(name, "left out: its program is not installed here")
                continue
            for other, needed in model.services[name].depends_on.items():
                if needed.condition == "service_healthy":
                    await up[other].until_healthy()
                    say(other, "healthy")
            one = Running(processes[name], logs / f"{name}.log")
            try:
                await one.start()
            except OSError as error:
                raise StartError(f"{name}: {error}") from None
            up[name] = one
            say(name, f"started at {one.process.address}")
        for name, one in up.items():
            await one.until_healthy()
            say(name, "healthy")
        yield up
    finally:
        for name in reversed(up):
            say(name, "stopping")
            await up[name].stop()
