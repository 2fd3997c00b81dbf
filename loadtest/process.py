"""What the server's processes hold, from `/proc`: memory, file descriptors, threads, connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PROC = Path("/proc")
_ESTABLISHED = "01"


class ProcessError(RuntimeError):
    """No such process, or one that may not be looked at."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Over a process and all its descendants. `time`: seconds from the run's start. `memory`: resident bytes; pages
    that processes share count for each. `connections`: established TCP connections. `anonymous`: resident bytes that
    are no file's: what the kernel cannot drop and read again, so that this alone shows what a process keeps."""

    time: float
    memory: int
    descriptors: int
    threads: int
    connections: int
    anonymous: int


def sample(pid: int, time: float = 0.0, root: Path = PROC) -> Sample:
    """Raises `ProcessError`. A descendant that ends meanwhile counts for nothing."""
    try:
        established = _established(root / str(pid) / "net")
        found = _one(root / str(pid), established)
    except OSError as error:
        raise ProcessError(f"process {pid} cannot be looked at: {error.strerror}") from None
    for child in _descendants(pid, root):
        try:
            found += _one(root / str(child), established)
        except OSError:
            continue
    return Sample(time, *found.tolist())


def _one(directory: Path, established: frozenset[str]) -> NDArray[np.int64]:
    """What a `Sample` holds after its time, in its order."""
    _, resident, shared, *_ = map(int, (directory / "statm").read_text().split())
    links = []
    count = 0
    for entry in os.scandir(directory / "fd"):
        count += 1
        try:
            links.append(os.readlink(entry.path))
        except OSError:
            continue  # closed meanwhile
    sockets = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    threads = len(os.listdir(directory / "task"))
    page = os.sysconf("SC_PAGE_SIZE")
    return np.array([resident * page, count, threads, len(sockets & established), (resident - shared) * page])


def _established(net: Path) -> frozenset[str]:
    """Inodes of the TCP sockets that are connected."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (net / name).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        found |= {fields[9] for line in lines if (fields := line.split())[3] == _ESTABLISHED}
    return frozenset(found)


def _descendants(pid: int, root: Path) -> list[int]:
    found: list[int] = []
    waiting = [pid]
    while waiting:
        tasks = root / str(waiting.pop()) / "task"
        try:
            own = [int(c) for task in os.listdir(tasks) for c in (tasks / task / "children").read_text().split()]
        except OSError:
            continue  # ended meanwhile, or a kernel that does not tell
        found += own
        waiting += own
    return found


async def watch(pid: int, into: list[Sample], start: float, *, every: float = 1.0) -> None:
    """Take samples until cancelled, or until the process ends. `start`: the loop's time at which the run starts."""
    loop = asyncio.get_running_loop()
    look: Callable[[], Sample] = lambda: sample(pid, loop.time() - start)  # noqa: E731
    while True:
        try:
            into.append(await asyncio.to_thread(look))
        except ProcessError:
            return
        await asyncio.sleep(every)
