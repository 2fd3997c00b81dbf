"""CPU seconds and memory of a process and all its descendants, from `/proc`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def used(pid: int, root: Path = PROC) -> dict[str, float]:
    """Seconds in user and kernel mode so far, by the processes' names. One that has ended counts for nothing."""
    found: Counter[str] = Counter()
    for process in family(pid, root):
        try:
            text = (root / str(process) / "stat").read_text()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        found[name] += (int(fields[11]) + int(fields[12])) / TICKS  # type: ignore[assignment]
    return dict(found)


def resident(pid: int, root: Path = PROC) -> int:
    """Bytes; pages that processes share count for each."""
    total = 0
    for process in family(pid, root):
        try:
            total += int((root / str(process) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue
    return total


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}


def family(pid: int, root: Path = PROC) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for process in found:  # grows while it is read
        tasks = root / str(process) / "task"
        try:
            found += [int(c) for task in os.listdir(tasks) for c in (tasks / task / "children").read_text().split()]
        except OSError:
            continue  # ended meanwhile, or a kernel that does not tell
    return found
