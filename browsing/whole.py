"""Files that appear under their name once they are whole: until then, and after a crash, the older one is there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFTOVER_SECONDS = 3_600.0
"""A place of `shared` that nobody has written to for so long was left behind by somebody who was killed."""


@contextmanager
def whole(path: Path, *, durable: bool = False, shared: bool = False) -> Iterator[Path]:
    """A place beside `path` to write to, which takes its name at the end; an error leaves nothing.

    Plainly, missing folders are made, and each process has a place of its own. `durable` is for work that goes on after
    a crash: what has its name is on the disk, whatever happens to the machine; the place is the same for every process,
    so that one that was killed leaves no more than the next one overwrites; and a folder that is missing was removed,
    and stays so. `shared` is for a file that several may write at the same time, on several machines, where processes
    have equal numbers: every writing has a place of its own, whoever ends last stays, and what was left behind goes
    with a later writing. Raises `OSError`.
    """
    if shared:
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    elif durable:
        partial = path.with_name(f"{path.name}.partial")
    else:
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    if not durable:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        if durable:
            _sync(partial, os.O_RDONLY)
        if shared:
            _sweep(path, partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # the error that led here says more
            partial.unlink()
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """A new name is on the disk only when its directory is. Raises `OSError`."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(path: Path, own: Path) -> None:
    """What others have left beside it. Its age is told by the file system's clock, which all of them share."""
    with suppress(OSError):
        now = own.stat().st_mtime
        for other in path.parent.glob(f"{path.name}.*.partial"):
            with suppress(OSError):  # somebody else was faster
                if now - other.stat().st_mtime > LEFTOVER_SECONDS:
                    other.unlink()


def write_whole(path: Path, text: str, *, durable: bool = False, shared: bool = False) -> None:
    """`text` in UTF-8. See `whole`."""
    with whole(path, durable=durable, shared=shared) as partial:
        partial.write_text(text, encoding="utf-8")
