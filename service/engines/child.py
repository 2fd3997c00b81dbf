"""One child process with everything below it, which never outlives its parent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.engines import guard

logger = logging.getLogger(__name__)

KILLED_SECONDS = 10.0
"""A process that was killed ends at once, but for one that the kernel holds: nobody waits for that."""


class Child:
    """`command`, run under a guard (see `service.engines.guard`). What it writes goes to `log`, readable by its owner
    alone; the log of the run before is kept beside it. `grace`: seconds between asking it to end and killing it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, grace: float) -> None:
        self.log = log
        self._command = tuple(command)
        self._environment = dict(environment)
        self._grace = grace
        self._process: asyncio.subprocess.Process | None = None

    @property
    def group(self) -> int | None:
        """The process group that it and everything below it are in, while it runs."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Raises `OSError`."""
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".previous.log"))
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", guard.__file__, str(self._grace), *self._command),
                stdin=asyncio.subprocess.PIPE,  # its end is how the guard learns that we are gone
                stdout=descriptor,
                stderr=descriptor,
                env=self._environment,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    async def ended(self) -> None:
        """Returns when it has ended, for whatever reason, and nothing of it is left."""
        if self._process is None:
            return
        await self._process.wait()
        self._sweep()

    async def stop(self) -> None:
        """Ask it to end, kill it if it does not; idempotent."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(self._grace + 5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
        finally:
            self._sweep()
        try:
            async with asyncio.timeout(KILLED_SECONDS):
                await self._process.wait()
        except TimeoutError:
            logger.error("process %d does not end although it was killed: it is left behind", self._process.pid)
        self._process = None

    def _sweep(self) -> None:
        """Kill what is left of the group: nothing, unless the guard itself was killed."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def last_words(self, lines: int = 12) -> str:
        """The end of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 8192))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])
