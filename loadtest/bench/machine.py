"""The machine that a run had, and the command that started it: what every document says of itself."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from loadtest.result import Machine

BUSY = 0.5
"""Load average per core before the run, above which it is flagged."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Taken before anything is measured. `began`: seconds of the monotonic clock; `load`: the load average over a
    minute."""

    began: float
    load: float

    @classmethod
    def start(cls) -> Self:
        return cls(time.monotonic(), os.getloadavg()[0])

    def seconds(self) -> float:
        """Since then."""
        return time.monotonic() - self.began

    def machine(self) -> Machine:
        """Then and now."""
        return Machine(cores=os.cpu_count() or 1, load_before=self.load, load_after=os.getloadavg()[0])


def flags(machine: Machine) -> list[str]:
    if machine.load_before <= BUSY * machine.cores:
        return []
    return [f"the machine was busy before: load average {machine.load_before:.2f} on {machine.cores} cores"]


def command() -> str:
    """As it was typed."""
    return shlex.join(["python", "-m", "loadtest.bench", *sys.argv[1:]])


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
