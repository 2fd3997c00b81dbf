"""What is done to the service in the middle of a run, and how long its answers suffer."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.generator import Fate


class FaultError(RuntimeError):
    """A fault that cannot be injected; the message names the option."""


@dataclass(frozen=True, slots=True)
class Hook:
    """`pid` gets SIGKILL; `command` is run, without a shell; `restore` is run later, to undo it."""

    pid: int | None = None
    command: str | None = None
    restore: str | None = None

    def __bool__(self) -> bool:
        return self.pid is not None or self.command is not None

    @property
    def words(self) -> str:
        parts = [f"SIGKILL to process {self.pid}"] if self.pid is not None else []
        parts += [Path(shlex.split(self.command)[0]).name] if self.command is not None else []
        return " and ".join(parts)

    def check(self) -> None:
        """Before the run: whether it can be done at all. Raises `FaultError`."""
        if self.pid is not None:
            if self.pid <= 1 or self.pid == os.getpid():
                raise FaultError(f"--kill-pid {self.pid}: not this one")
            try:
                os.kill(self.pid, 0)
            except OSError as error:
                raise FaultError(f"--kill-pid {self.pid}: {error.strerror}") from None
        for option, command in (("--kill-command", self.command), ("--restore-command", self.restore)):
            if command is not None:
                try:
                    words = shlex.split(command)
                except ValueError as error:
                    raise FaultError(f"{option}: {error}") from None
                if not words or shutil.which(words[0]) is None:
                    raise FaultError(f"{option}: there is no program {words[0] if words else '(nothing)'}")

    async def strike(self) -> None:
        """Raises `FaultError`."""
        if self.pid is not None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except OSError as error:
                raise FaultError(f"--kill-pid {self.pid}: {error.strerror}, before it was its turn") from None
        if self.command is not None:
            await _run("--kill-command", self.command)

    async def undo(self) -> None:
        """Raises `FaultError`."""
        if self.restore is not None:
            await _run("--restore-command", self.restore)


async def _run(option: str, command: str) -> None:
    nothing = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*shlex.split(command), stdin=nothing, stdout=nothing, stderr=nothing)
    code = await process.wait()
    if code != 0:
        raise FaultError(f"{option}: it ended with code {code}")


def bad_after(fates: Sequence[Fate], at: float) -> list[Fate]:
    """What was not answered correctly by the model from `at` on: the arrivals after it, and those that it caught under
    way. Callers who left by themselves say nothing."""
    return [fate for fate in fates if fate.ended >= at and fate.reply.verdict.kind != "left" and not _good(fate)]


def recovered_after(fates: Sequence[Fate], at: float) -> float | None:
    """Seconds from a fault at `at` to the intended start of the first request after which all were answered correctly
    and by the model. 0 where nobody noticed anything, None where that never came."""
    bad = bad_after(fates, at)
    if not bad:
        return 0.0
    last = max(fate.intended for fate in bad)
    good = [fate.intended for fate in fates if fate.intended > last and _good(fate)]
    return max(0.0, min(good) - at) if good else None


def _good(fate: Fate) -> bool:
    verdict = fate.reply.verdict
    return verdict.kind == "correct" and verdict.fallback != "engine_down"
