"""What was activated, in a file beside the versions: a restart comes back with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from browsing.bundle import BundleError
from browsing.whole import write_whole
from service.versions.registry import Found, Registry, UnknownVersion

FILE = "activated.json"


class StartError(ValueError):
    """No bundle can be chosen to start with; the message names the file and the remedy."""


class Remembered(BaseModel):
    """`name`: of the folder. `version`: what was in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str


class RememberedCanary(Remembered):
    share: float = Field(gt=0, le=1)


class State(BaseModel):
    """The contents of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    serving: Remembered
    canary: RememberedCanary | None = None
    since: datetime = Field(description="when the file was written")


class Memory:
    """Both methods block."""

    def __init__(self, root: Path) -> None:
        self.path = root / FILE

    def read(self) -> State | None:
        """None where nothing was activated yet. Raises `StartError`."""
        try:
            return State.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not what was written there"
            raise StartError(
                f"{self.path}: {why}; remove it, and name the version to start with (--bundle-version)"
            ) from None

    def write(self, serving: Remembered, canary: RememberedCanary | None) -> None:
        """The folder may be several replicas', and the machine may lose its power. Raises `OSError`."""
        state = State(serving=serving, canary=canary, since=datetime.now(UTC))
        write_whole(self.path, state.model_dump_json(indent=2) + "\n", durable=True, shared=True)


def first(registry: Registry, memory: Memory, named: str | None) -> Found:
    """What a starting service serves: the version that is named; else the one activated last; else the newest.

    One that was activated and is gone is an error, for nobody decided what is to be served instead. Raises
    `StartError`.
    """
    try:
        if named is not None:
            return registry.find(named)
        state = memory.read()
        return registry.newest() if state is None else again(registry, state.serving)
    except UnknownVersion as error:
        where = "HETLM_BUNDLE_VERSION (--bundle-version)" if named is not None else "HETLM_BUNDLES (--bundles)"
        raise StartError(f"{where}: {error}") from None
    except BundleError as error:
        raise StartError(f"{registry.root}: {error}") from None
    except OSError as error:
        raise StartError(f"HETLM_BUNDLES (--bundles): {error.filename or registry.root}: {error.strerror}") from None


def again(registry: Registry, remembered: Remembered) -> Found:
    """The version that was activated, in its folder or, where that was renamed, in another.

    Raises `StartError`, `OSError`.
    """
    for wanted in (remembered.name, remembered.version):
        try:
            found = registry.find(wanted)
        except (UnknownVersion, BundleError):
            continue
        if found.version == remembered.version:
            return found
    raise StartError(
        f"{registry.root / FILE}: bundle {remembered.name} (version {remembered.version[:12]}) was activated last, and "
        "is not there any more, or is another: put it back, or name the version to start with (--bundle-version)"
    )


def first_canary(
    registry: Registry, memory: Memory, asked: tuple[str, float] | None, served: str
) -> tuple[str, float] | None:
    """The canary of a starting service, its name or version and its share: the one asked for; else the one that ran
    beside `served` (a version) before. One that has become what is served is none any more.

    Raises `StartError` for one that is asked for and not there.
    """
    if asked is not None:
        name, share = asked
        try:
            found = registry.find(name)
        except (UnknownVersion, BundleError) as error:
            raise StartError(f"HETLM_CANARY (--canary): {error}") from None
        except OSError as error:
            raise StartError(f"HETLM_CANARY (--canary): {error.filename or registry.root}: {error.strerror}") from None
        return (found.name, share) if found.version != served else None
    try:
        state = memory.read()
    except StartError:
        return None  # where what is served was named all the same
    if state is None or state.canary is None or state.serving.version != served:
        return None
    return state.canary.version, state.canary.share
