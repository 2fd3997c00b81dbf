"""What a Dockerfile's last stage says of its containers, as far as it matters without a container engine."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from deploy.local.model import HealthCheck

_INSTRUCTION = re.compile(r"([A-Z]+)\s+(.*)", re.S)
_EXEC_ONLY = ("ENTRYPOINT", "CMD")


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Image:
    """`copies`: from the build's context into the container. `environment`: without the search paths of its layout."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: dict[str, str]
    health: HealthCheck | None
    copies: dict[str, str]
    user: str
    ports: tuple[int, ...]


def instructions(text: str) -> list[Instruction]:
    """In their order; comments left out, continued lines joined. Raises `ValueError`."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", kept)
    found = []
    for line in filter(None, (line.strip() for line in joined.splitlines())):
        match = _INSTRUCTION.fullmatch(line)
        if match is None:
            raise ValueError(f"no instruction: {line}")
        found.append(Instruction(match[1], re.sub(r"\s+", " ", match[2]).strip()))
    return found


def image(dockerfile: Path) -> Image:
    """Of the last stage. Raises `OSError`, `ValueError` (what is not written as a JSON list needs a shell)."""
    every = instructions(dockerfile.read_text())
    last = max(place for place, one in enumerate(every) if one.name == "FROM")
    commands: dict[str, tuple[str, ...]] = {}
    environment: dict[str, str] = {}
    copies: dict[str, str] = {}
    health: HealthCheck | None = None
    user = "root"
    ports: tuple[int, ...] = ()
    for one in every[last + 1 :]:
        if one.name in _EXEC_ONLY:
            commands[one.name] = tuple(json.loads(one.value))
        elif one.name == "ENV":
            environment |= dict(pair.split("=", 1) for pair in shlex.split(one.value))
        elif one.name == "COPY" and not one.value.startswith("--"):
            source, target = one.value.split()
            copies[target] = source
        elif one.name == "HEALTHCHECK":
            health = _health(one.value)
        elif one.name == "USER":
            user = one.value
        elif one.name == "EXPOSE":
            ports = tuple(map(int, one.value.split()))
    for name in ("PATH", "PYTHONPATH"):
        environment.pop(name, None)
    return Image(commands.get("ENTRYPOINT", ()), commands.get("CMD", ()), environment, health, copies, user, ports)


def _health(value: str) -> HealthCheck | None:
    if value == "NONE":
        return None
    options, _, command = value.partition("CMD ")
    given = dict(re.findall(r"--([a-z-]+)=(\S+)", options))
    document = {name.replace("-", "_"): setting for name, setting in given.items()}
    return HealthCheck.model_validate({**document, "test": ["CMD", *json.loads(command)]})
