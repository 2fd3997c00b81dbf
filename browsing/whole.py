"""Files that appear under their name once they are whole: until then, and after a crash, the older one is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A place beside `path` to write to, which takes its name at the end; an error leaves nothing.

    Plainly, missing folders are made, and each process has a place of its own. `durable` is for work that goes on after
    a crash: what has its name is on the disk, whatever happens to the machine; the place is the same for every process,
    so that one that was killed leaves no more than the next one overwrites; and a folder that is missing was removed,
    and stays so. Raises `OSError`.
    """
    if durable:
        partial = path.with_name(f"{path.name}.partial")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        if durable:
            _sync(partial, os.O_RDONLY)
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


def write_whole(path: Path, text: str) -> None:
    """`text` in UTF-8."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
