"""The file of API keys: read, written as a whole, and read again by a running service when it changes."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from pydantic import ValidationError
from structlog.typing import FilteringBoundLogger

from service.security.keys import KeyFile, Keyring

MAX_BYTES = 1_048_576

Signature = tuple[int, int, int]
"""Of a file: time of its last change in nanoseconds, bytes, inode."""


class KeyFileError(ValueError):
    """A file that cannot be used. The message names the field and the remedy, and quotes no value."""


def read(path: Path) -> KeyFile:
    """Raises `KeyFileError`."""
    return _read(path)[0]


def usable(path: Path) -> KeyFile:
    """A file that a service can start with. Raises `KeyFileError`, also where it holds no key."""
    file = read(path)
    if not file.callers:
        raise KeyFileError(f"{path}: holds no key; `hetlm keys new NAME --scope predict --file {path}` adds one")
    return file


def _read(path: Path) -> tuple[KeyFile, Signature]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; `hetlm keys new NAME --scope predict` makes one") from None
    if status.st_mode & stat.S_IWOTH:
        raise KeyFileError(f"{path}: everybody on this machine could add a key to it: chmod o-w")
    if len(content) > MAX_BYTES:
        raise KeyFileError(f"{path}: larger than {MAX_BYTES} bytes: revoke what is no longer used")
    try:
        return KeyFile.model_validate_json(content), _signature(status)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"])
        # Its message for JSON that cannot be read holds a place; the others say what a field must be.
        raise KeyFileError(f"{path}: {where or 'the file'}: {first['msg'].removeprefix('Value error, ')}") from None


def write(path: Path, file: KeyFile) -> None:
    """Replace the file at once: a service that reads it meanwhile sees the old one or the new one. Raises
    `OSError`."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    target = path.resolve()  # a link stays a link
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".keys-")
    try:
        with os.fdopen(descriptor, "w") as new:
            new.write(file.model_dump_json(indent=2, exclude_none=True) + "\n")
            new.flush()
            os.fchmod(new.fileno(), mode)
            os.fsync(new.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _signature(status: os.stat_result) -> Signature:
    return status.st_mtime_ns, status.st_size, status.st_ino


class LiveKeys:
    """The keys of a running service. A file that changed is read before the next request; one that is broken or gone
    changes nothing but a line in the log, for half a file must not lock everybody out, nor let anybody in."""

    def __init__(self, path: Path, log: FilteringBoundLogger) -> None:
        """Raises `KeyFileError` for a file that cannot be used, or holds no key."""
        usable(path)
        self._path = path
        self._log = log
        self._seen: Signature | None
        self._file, self._seen = _read(path)
        self._ring = Keyring(self._file)

    def ring(self) -> Keyring:
        """What recognises the keys that the file holds now."""
        self._follow()
        return self._ring

    def file(self) -> KeyFile:
        """As it is now; where it is broken, as it was."""
        self._follow()
        return self._file

    def _follow(self) -> None:
        try:
            now: Signature | None = _signature(self._path.stat())
        except OSError:
            now = None
        if now != self._seen:
            self._again(now)

    def _again(self, now: Signature | None) -> None:
        self._seen = now  # a broken file is complained about once
        try:
            self._file, self._seen = _read(self._path)
        except KeyFileError:
            self._log.error("api_keys_unusable", remedy="hetlm keys list names what is wrong; the old keys stay valid")
            return
        self._ring = Keyring(self._file)
        self._log.info("api_keys_read", keys=len(self._ring))
