"""From a container to a process: paths become those of this machine, names of services loopback addresses."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.dockerfile import Image, image
from deploy.local.model import ComposeError, HealthCheck, Model, Mount, Service
from deploy.local.programs import ENTRYPOINTS, OPTIONAL, MissingProgramError, installed

_EVERYWHERE = "0.0.0.0"
_ITSELF = ("127.0.0.1", "localhost")
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
"""What a process takes over from this one's environment; everything else it would not have in a container either."""


@dataclass(frozen=True, slots=True)
class Process:
    """What is run in a container's place. `health`: a command and its timing; `grace`: seconds to end in."""

    name: str
    address: str
    command: tuple[str, ...]
    environment: dict[str, str]
    health: HealthCheck | None
    grace: float


def addresses(model: Model, network: str) -> dict[str, str]:
    """A loopback address for every service, so that all keep their ports: those of `network` from its tenth on. Raises
    `ComposeError`."""
    try:
        first = ipaddress.IPv4Address(network)
    except ValueError as error:
        raise ComposeError(f"{network}: {error}") from None
    if not first.is_loopback:
        raise ComposeError(f"{network}: is no loopback address, such as 127.77.0.0")
    return {name: str(first + 10 + place) for place, name in enumerate(model.services)}


def process(model: Model, name: str, known: Mapping[str, str], state: Path, scratch: Path) -> Process | None:
    """The process of one service, its files laid out below `state`; None for a program that may be missing, and is.
    `known`: the services' addresses. `scratch`: where what is only temporary goes, a short path, for programs have
    sockets there. Raises `ComposeError`."""
    service = model.services[name]
    try:
        built = _image(model, service)
        own = state / name
        paths = _paths(model, name, service, built, known, own, scratch / name)
        place = Place(known[name], dict(known), paths)
        entry = built.entrypoint if built is not None else ENTRYPOINTS[service.image.partition(":")[0]]
        arguments = service.command if service.command is not None else (built.command if built is not None else ())
        health = service.healthcheck or (built.health if built is not None else None)
        program, *words = (*entry, *arguments)
        command = installed([program, *map(place.text, words)])  # the program's own path is this machine's already
        given = {**(built.environment if built is not None else {}), **service.environment}
        if health is not None:
            program, *words = health.test[1:]
            test = installed([program, *map(place.health, words)])
            health = health.model_copy(update={"test": tuple(test)})
    except MissingProgramError as error:
        if service.image.partition(":")[0] in OPTIONAL:
            return None
        raise ComposeError(f"{name}: {error}") from None
    except (OSError, ValueError, KeyError) as error:
        raise ComposeError(f"{name}: {error}") from None
    temporary = str(paths.get("/tmp", _folder(scratch / name)))
    environment = {
        **{variable: os.environ[variable] for variable in _KEPT if variable in os.environ},
        "HOME": temporary,
        "TMPDIR": temporary,
        **{variable: place.text(value) for variable, value in given.items()},
    }
    return Process(name, known[name], tuple(command), environment, health, service.stop_grace_period)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container's paths and the services' names are, seen from one service."""

    address: str
    services: dict[str, str]
    paths: dict[str, Path]

    def text(self, text: str) -> str:
        """A word of a command line, a variable's value, or a file's text."""
        # All paths at once: what one becomes may look like another.
        targets = "|".join(re.escape(target) for target in sorted(self.paths, key=len, reverse=True))
        if targets:
            found = re.compile(rf"(?<![\w./-])(?:{targets})(?=/|$|[^\w./-])")
            text = found.sub(lambda match: str(self.paths[match[0]]), text)
        text = re.sub(rf"(?<![\d.]){re.escape(_EVERYWHERE)}(?![\d.])", self.address, text)
        return self.names(text)

    def names(self, text: str) -> str:
        """The names of services before a port."""
        for name, address in self.services.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?=:\d)", address, text)
        return text

    def health(self, text: str) -> str:
        """A health check's words: it asks its own container."""
        return self.itself(self.text(text))

    def itself(self, text: str) -> str:
        for own in _ITSELF:
            text = re.sub(rf"(?<![\w.-]){re.escape(own)}(?![\w.-])", self.address, text)
        return text


def _image(model: Model, service: Service) -> Image | None:
    if service.build is None:
        if service.image.partition(":")[0] not in ENTRYPOINTS:
            raise ComposeError(f"{service.image}: is not known here")
        return None
    return image(model.folder / service.build.context / service.build.dockerfile)


def _paths(
    model: Model,
    name: str,
    service: Service,
    built: Image | None,
    known: Mapping[str, str],
    own: Path,
    scratch: Path,
) -> dict[str, Path]:
    """Where everything that is mounted or copied into the container is here. Files that name services are copied."""
    place = Place(known[name], dict(known), {})
    paths: dict[str, Path] = {}
    for mounted in service.tmpfs:
        target = mounted.partition(":")[0]
        paths[target] = _folder(scratch / target.strip("/").replace("/", "-"))
    for mount in service.volumes:
        paths[mount.target] = _mounted(model, mount, place, own)
    for secret in service.secrets:
        source = model.folder / model.secrets[secret].file
        if not source.is_file():
            raise ComposeError(f"{source}: the secret {secret} is not there; `hetlm deploy secrets` makes it")
        copy = _folder(own / "secrets") / secret
        copy.touch(mode=0o600)
        copy.write_text(place.names(source.read_text()))
        paths[f"/run/secrets/{secret}"] = copy.resolve()
    if built is not None and service.build is not None:
        context = model.folder / service.build.context
        paths |= {target: (context / source).resolve() for target, source in built.copies.items()}
    return paths


def _mounted(model: Model, mount: Mount, place: Place, own: Path) -> Path:
    if mount.type == "volume":
        return _folder(own.parent / "volumes" / mount.source)
    source = (model.folder / mount.source).resolve()
    if not source.is_dir():
        raise ComposeError(f"{source}: is not there, and would be mounted at {mount.target}")
    if not any(source.rglob("*.yml")):
        return source
    copy = own / mount.target.strip("/").replace("/", "-")
    shutil.copytree(source, copy, dirs_exist_ok=True)
    for file in copy.rglob("*.yml"):
        file.write_text(place.itself(place.names(file.read_text())))
    return copy.resolve()


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path.resolve()
