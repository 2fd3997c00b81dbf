"""`hetlm serve` as a process of its own: started, found, struck and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 300.0
"""Seconds that a start may take: vLLM's engines come one after another, on a busy machine."""
_LABELS = {"predictions": "/predict", "metrics": "/metrics", "administration": "/admin"}
"""What it announces, and where the address's own path begins."""


class StartError(RuntimeError):
    """It did not start; the message ends with what it said."""


@dataclass(frozen=True, slots=True)
class Served:
    """`started_in`: seconds from its beginning to the line that says "ready"."""

    popen: subprocess.Popen[bytes]
    url: str
    metrics_url: str
    admin_url: str
    log: Path
    started_in: float

    @property
    def pid(self) -> int:
        return self.popen.pid

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    async def end(self, *, patience: float = 60.0) -> int:
        """SIGTERM, and its exit code; SIGKILL where that takes too long."""
        if self.popen.poll() is None:
            self.popen.terminate()
        return await self.ended(patience=patience)

    async def ended(self, *, patience: float = 60.0) -> int:
        """Its exit code, once it has ended by itself; SIGKILL where that takes too long."""
        try:
            return await asyncio.to_thread(self.popen.wait, patience)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.popen.returncode

    def kill(self) -> None:
        """SIGKILL, to it alone: what it started ends by itself."""
        self.popen.kill()
        self.popen.wait()


def begin(
    bundle: Path | None,
    log: Path,
    arguments: Sequence[str] = (),
    *,
    module: str = "browsing",
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """On free ports of this machine. `bundle`: None where the arguments name a folder of them. `module`: what runs the
    command line. `variables`: further ones; none of HETLM_* is taken from here."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HETLM_")}
    named = [str(bundle)] if bundle is not None else []
    ports = [word for name in ("port", "metrics-port", "admin-port") for word in (f"--{name}", "0")]
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module, "serve", *named, *ports, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            env={**environment, **(variables or {})},
        )


async def start(
    bundle: Path | None,
    log: Path,
    arguments: Sequence[str] = (),
    *,
    module: str = "browsing",
    variables: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> Served:
    """Returns once it is ready. Raises `StartError`. See `begin`."""
    began = time.monotonic()
    popen = begin(bundle, log, arguments, module=module, variables=variables)
    try:
        while (found := _addresses(log)) is None:
            if popen.poll() is not None:
                raise StartError(f"hetlm serve ended with code {popen.returncode}: {_said(log)}")
            if time.monotonic() - began > patience:
                raise StartError(f"hetlm serve was not ready within {patience:g} seconds: {_said(log)}")
            await asyncio.sleep(0.02)
    except BaseException:
        popen.kill()
        popen.wait()
        raise
    return Served(
        popen=popen,
        url=found["predictions"],
        metrics_url=found["metrics"] + "/metrics",
        admin_url=found["administration"],
        log=log,
        started_in=time.monotonic() - began,
    )


def _addresses(log: Path) -> dict[str, str] | None:
    """What it announces when it is ready; None before all of it is there."""
    text = log.read_text(errors="replace")
    found = {}
    for line in text.splitlines(keepends=True):
        words = line.split()
        if line.startswith("  ") and len(words) >= 2 and words[0] in _LABELS and line.endswith("\n"):
            found[words[0]] = words[-1].rpartition(_LABELS[words[0]])[0]
    return found if found.keys() == _LABELS.keys() else None


def _said(log: Path, most: int = 800) -> str:
    return log.read_text(errors="replace").strip()[-most:] or "nothing"
