"""The folder of bundles: every sub-folder is a version, and what is known of it without trusting it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from browsing.bundle import MANIFEST, BundleError, Manifest, version_of
from service.security import names
from service.security.names import NameRefused

LISTED = 1_000
"""Versions that are looked at; a folder with more is no folder of bundles."""
SHORTEST = 12
"""Characters by which a version can be named."""
_HASH = re.compile(rf"[0-9a-f]{{{SHORTEST},64}}")


class UnknownVersion(LookupError):
    """There is no such version, or more than one. The message says so and how to name one; it repeats no name."""


@dataclass(frozen=True, slots=True)
class Found:
    """A version whose manifest can be read and whose files are there. Nothing is verified: `Bundle.load` does that.

    `written`: when its manifest was written here."""

    name: str
    root: Path
    manifest: Manifest
    written: datetime

    @property
    def version(self) -> str:
        return self.manifest.version


@dataclass(frozen=True, slots=True)
class Broken:
    """A sub-folder that is no version; `reason`: why."""

    name: str
    reason: str


class Registry:
    """Every method blocks. `root` and what is in it may change at any time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def entries(self) -> list[Found | Broken]:
        """By name. Files, and folders that begin with a dot, are left out. Raises `OSError`."""
        found = sorted(e.name for e in self.root.iterdir() if not e.name.startswith(".") and not e.is_file())
        return [self._entry(name) for name in found[:LISTED]]

    def find(self, wanted: str) -> Found:
        """The version in the sub-folder `wanted`, or whose hash is or begins with it (12 characters or more).

        Raises `UnknownVersion`; `BundleError` where its manifest cannot be read, `OSError` where the folder cannot.
        """
        try:
            path = names.inside(self.root, names.version(wanted))
        except NameRefused as refused:
            raise UnknownVersion(f"there is no such bundle: {refused}") from None
        if path.is_dir():
            return self._read(wanted)
        matching = []
        if _HASH.fullmatch(wanted):
            entries = self.entries()
            matching = [e for e in entries if isinstance(e, Found) and e.version.startswith(wanted)]
        if len({entry.version for entry in matching}) > 1:
            raise UnknownVersion("several bundles have a version that begins so: name more of it, or the folder")
        if not matching:
            raise UnknownVersion(
                "there is no such bundle: name a folder below the bundles' folder, or a version's first 12 characters "
                "or more"
            )
        return matching[0]

    def newest(self) -> Found:
        """The one whose training log ends last; of several, the one whose manifest was written last.

        Raises `UnknownVersion` where there is none, `OSError`.
        """
        found = [entry for entry in self.entries() if isinstance(entry, Found)]
        if not found:
            raise UnknownVersion(f"{self.root} holds no bundle: put one into a folder below it")
        return max(found, key=lambda entry: (_time(entry.manifest.training.window_end), entry.written, entry.name))

    def _entry(self, name: str) -> Found | Broken:
        try:
            return self._read(name)
        except (BundleError, NameRefused) as error:
            return Broken(name, str(error))
        except OSError as error:
            return Broken(name, f"cannot be read: {error.strerror or type(error).__name__}")

    def _read(self, name: str) -> Found:
        """Raises `NameRefused`, `BundleError`, `OSError`."""
        root = names.inside(self.root, names.version(name))
        path = root / MANIFEST
        if not path.is_file():
            raise BundleError(f"{name} is not a bundle: it has no {MANIFEST}")
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise BundleError(f"{name}/{MANIFEST}: {where}: {first['msg']}") from None
        if version_of(manifest) != manifest.version:
            raise BundleError(f"{name}: the manifest's version is not the hash of its contents")
        missing = next((listed for listed in sorted(manifest.files) if not (root / listed).is_file()), None)
        if missing is not None:
            raise BundleError(f"{name}: missing file {missing}")
        return Found(name, root, manifest, datetime.fromtimestamp(path.stat().st_mtime, UTC))


def _time(text: str) -> datetime:
    """A manifest's time; one that tells none is older than any other."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
