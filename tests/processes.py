"""Ports and processes of this machine, as tests see them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path


def until(holds: Callable[[], object], seconds: float, pause: float = 0.05) -> None:
    """Wait for it. Raises `TimeoutError`."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"it did not come about within {seconds:g} s")
        time.sleep(pause)


def free_port() -> int:
    """One that nobody listens on just now, on the loopback address."""
    with socket.create_server(("127.0.0.1", 0)) as own:
        port: int = own.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody does there, on the loopback address."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def runs(pid: int) -> bool:
    """Neither gone nor a zombie."""
    with suppress(OSError):
        return _stat(pid)[0] != "Z"
    return False


def descendants(pid: int) -> dict[int, str]:
    """Process id -> when it was started, so that nobody else with this id is meant."""
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        with suppress(OSError):
            for task in Path(f"/proc/{waiting.pop()}/task").iterdir():
                for child in map(int, (task / "children").read_text().split()):
                    found[child] = _stat(child)[19]
                    waiting.append(child)
    return found


def alive(processes: Mapping[int, str]) -> list[int]:
    """Those of `descendants` that still run."""
    found = []
    for pid, since in processes.items():
        with suppress(OSError):
            if _stat(pid)[19] == since and runs(pid):
                found.append(pid)
    return found


def _stat(pid: int) -> list[str]:
    """What `proc(5)` tells of it, from its state on, whatever its name is. Raises `OSError`."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
