"""Compose files, read: includes, overrides and variables resolved, as far as ours use them; the rest is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from deploy.local.interpolation import VariableError, interpolated

_PARTS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class ComposeError(ValueError):
    """A Compose file that cannot be run here; the message names the file and what is wrong."""


def seconds(value: object) -> object:
    """`1m30s` in seconds. Raises `ValueError`."""
    if not isinstance(value, str):
        return value
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError(f"{value} is no duration such as 1m30s")
    return sum(float(number) * _PARTS[unit] for number, unit in parts)


Duration = Annotated[float, BeforeValidator(seconds)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Build(_Part):
    context: Path
    dockerfile: str
    args: dict[str, str] = {}


class BindOptions(_Part):
    create_host_path: bool = True


class Mount(_Part):
    """`source`: a folder of the host for a bind, a name for a volume."""

    type: Literal["bind", "volume"]
    source: str
    target: str
    read_only: bool = False
    bind: BindOptions = BindOptions()


class Dependency(_Part):
    condition: Literal["service_started", "service_healthy"]


class HealthCheck(_Part):
    """`test`: CMD and a command."""

    test: tuple[str, ...]
    interval: Duration = 30.0
    timeout: Duration = 30.0
    retries: int = 3
    start_period: Duration = 0.0
    start_interval: Duration = 5.0


class Secret(_Part):
    file: Path


class Service(_Part):
    image: str
    build: Build | None = None
    command: tuple[str, ...] | None = None
    environment: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    volumes: tuple[Mount, ...] = ()
    tmpfs: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    depends_on: dict[str, Dependency] = {}
    healthcheck: HealthCheck | None = None
    stop_grace_period: Duration = 10.0
    restart: Literal["always"] = "always"
    # What a container engine holds a container to; a process of this machine has the user's own rights and limits.
    user: str | None = None
    read_only: bool = False
    init: bool = False
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    pids_limit: int | None = None
    mem_limit: str | None = None
    shm_size: str | None = None
    logging: dict[str, Any] = {}
    deploy: dict[str, Any] = {}


class Network(_Part):
    internal: bool = False


class Model(_Part):
    name: str
    services: dict[str, Service]
    networks: dict[str, Network] = {}
    volumes: dict[str, dict[str, Any]] = {}
    secrets: dict[str, Secret] = {}
    folder: Path = Field(default=Path())

    def order(self) -> list[str]:
        """The services, each after what it depends on; the files' order otherwise. Raises `ComposeError`."""
        ordered: list[str] = []
        while len(ordered) < len(self.services):
            free = [
                name
                for name, service in self.services.items()
                if name not in ordered and set(service.depends_on) <= set(ordered)
            ]
            if not free:
                waiting = ", ".join(name for name in self.services if name not in ordered)
                raise ComposeError(f"{waiting}: depend on each other, or on what is not there")
            ordered.append(free[0])
        return ordered


def load(file: Path, variables: Mapping[str, str]) -> Model:
    """The model of a Compose file and of what it includes. Raises `ComposeError`."""
    try:
        document = _with_includes(file, variables)
        document = {key: value for key, value in document.items() if not key.startswith("x-")}
        model = Model.model_validate({**document, "folder": file.parent})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ComposeError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for name, service in model.services.items():
        for kind, used, known in (
            ("secret", service.secrets, model.secrets),
            ("network", service.networks, model.networks),
            ("volume", [m.source for m in service.volumes if m.type == "volume"], model.volumes),
            ("service", service.depends_on, model.services),
        ):
            if missing := sorted(set(used) - set(known)):
                raise ComposeError(f"{file}: {name} names the {kind} {missing[0]}, which is not there")
    return model


def _with_includes(file: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """Raises `ComposeError`."""
    document = _read(file, variables)
    for include in document.pop("include", []):
        paths = [include] if isinstance(include, str) else include["path"]
        paths = [paths] if isinstance(paths, str) else paths
        included: dict[str, Any] = {}
        for path in paths:
            included = merged(included, _with_includes(file.parent / path, variables))
        for section, content in included.items():
            own = document.setdefault(section, {})
            if twice := sorted(set(own) & set(content)):
                raise ComposeError(f"{file}: {section} {twice[0]} is there already, from an include")
            document[section] = {**own, **content}
    return document


def _read(file: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    try:
        document = interpolated(yaml.safe_load(file.read_text()), variables)
    except OSError as error:
        raise ComposeError(f"{file}: {error.strerror}") from None
    except (yaml.YAMLError, VariableError) as error:
        raise ComposeError(f"{file}: {error}") from None
    if not isinstance(document, dict):
        raise ComposeError(f"{file}: is no Compose file")
    sections = ("services", "networks", "volumes", "secrets")
    for section in sections:
        document[section] = {name: content or {} for name, content in (document.get(section) or {}).items()}
    for service in document["services"].values():
        if isinstance(service.get("depends_on"), list):
            service["depends_on"] = {name: {"condition": "service_started"} for name in service["depends_on"]}
    return {key: value for key, value in document.items() if value or key not in sections}


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """What Compose makes of a file and one laid over it: mappings are merged, of the rest the upper wins; mounts are
    told apart by their targets, and other lists are joined, but for commands."""
    result = dict(under)
    for key, value in over.items():
        before = result.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            result[key] = merged(before, value)
        elif isinstance(before, list) and isinstance(value, list) and key == "volumes":
            result[key] = list({mount["target"]: mount for mount in (*before, *value)}.values())
        elif isinstance(before, list) and isinstance(value, list) and key not in ("command", "test"):
            result[key] = [*before, *(item for item in value if item not in before)]
        else:
            result[key] = value
    return result
