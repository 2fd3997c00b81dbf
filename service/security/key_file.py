"""The file of API keys: read, and changed by one at a time, as a whole, without changing hands."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from service.security.keys import KeyFile

MAX_BYTES = 1_048_576
LOCK_SECONDS = 10.0
"""A command holds the lock for milliseconds; one that has held it for so long has stopped."""

Signature = tuple[int, int, int, int]
"""Of a file: times of its last change and of its status' (owner, mode) in nanoseconds, bytes, inode."""


class KeyFileError(ValueError):
    """A file that cannot be used. The message names the field and the remedy, and quotes no value. `why`: in a few
    words, for the log."""

    def __init__(self, message: str, why: str = "") -> None:
        super().__init__(message)
        self.why = why


def read(path: Path) -> KeyFile:
    """Raises `KeyFileError`."""
    return read_signed(path)[0]


def usable(path: Path) -> KeyFile:
    """A file that a service can start with. Raises `KeyFileError`, also where it holds no key."""
    file = read(path)
    if not file.callers:
        raise KeyFileError(f"{path}: holds no key; `hetlm keys new NAME --scope predict --file {path}` adds one")
    return file


def read_signed(path: Path) -> tuple[KeyFile, Signature]:
    """With the signature of exactly what was read. Raises `KeyFileError`."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        why = str(error.strerror)
        raise KeyFileError(f"{path}: {why}; `hetlm keys new NAME --scope predict` makes one", why) from None
    except OSError as error:
        why = str(error.strerror)
        raise KeyFileError(f"{path}: {why}; whoever runs this must be able to read it: chown or chmod", why) from None
    if status.st_mode & stat.S_IWOTH:
        raise KeyFileError(
            f"{path}: everybody on this machine could add a key to it: chmod o-w", "everybody may write to it"
        )
    if len(content) > MAX_BYTES:
        raise KeyFileError(f"{path}: larger than {MAX_BYTES} bytes: revoke what is no longer used", "it is too large")
    try:
        return KeyFile.model_validate_json(content), signature(status)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"])
        # Its message for JSON that cannot be read holds a place; the others say what a field must be.
        raise KeyFileError(
            f"{path}: {where or 'the file'}: {first['msg'].removeprefix('Value error, ')}",
            "it is no valid file of keys",
        ) from None


def signature(status: os.stat_result) -> Signature:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def write(path: Path, file: KeyFile) -> None:
    """Replace the file at once: a service that reads it meanwhile sees the old one or the new one. Owner, group and
    mode stay: root's hand must not take it away from the service that reads it. A new one is its maker's alone.

    Raises `KeyFileError` where they cannot stay, and `OSError`.
    """
    target = path.resolve()  # a link stays a link
    before = _status(target)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".keys-")
    try:
        with os.fdopen(descriptor, "w") as new:
            if before is not None:
                try:
                    _give(new.fileno(), before)
                except PermissionError:
                    raise KeyFileError(
                        f"{path}: belongs to another user: run this as root or as that user, so that it stays theirs"
                    ) from None
            new.write(file.model_dump_json(indent=2, exclude_none=True) + "\n")
            new.flush()
            os.fsync(new.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Around reading, changing and writing the file: of two who change it at once one waits for the other.

    The lock is held on a file beside it (`.NAME.lock`), which stays, and whose owner and mode are the file's own: who
    cannot read the keys cannot keep others from revoking them. Raises `KeyFileError` where somebody holds the lock for
    longer than any command does, and `OSError`.
    """
    target = path.resolve()
    lock = target.with_name(f".{target.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, lock)
        keys, own = _status(target), os.fstat(descriptor)
        if keys is not None and own.st_nlink == 1:  # a second name may be that of a file which is nobody's to give
            with suppress(PermissionError):  # nor will this user be able to write the keys
                _give(descriptor, keys)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, lock: Path) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise KeyFileError(
                    f"{lock}: another command has held it for {LOCK_SECONDS:.0f} seconds: end that one (fuser names it)"
                ) from None
            time.sleep(0.02)
        else:
            return


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _give(descriptor: int, owner: os.stat_result) -> None:
    """Owner, group and mode of `owner`. Raises `PermissionError`."""
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (owner.st_uid, owner.st_gid):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(owner.st_mode))
