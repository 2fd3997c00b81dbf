"""Which files a dataset is made of: their names, sizes and hashes, computed while they are read for their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Event

from training.dataset import Source, SourceFile
from training.ingest.format import Format
from training.ingest.readers import LogError, LogFile

Bar = Callable[[str, float, str], AbstractContextManager[Callable[[float], None]]]
"""`browsing.console.progress`, or something like it."""

_CHUNK = 1 << 20


class _GivenUp(Exception):
    """Nobody wants to know any more."""


def source_of(files: Sequence[LogFile], form: Format, bar: Bar) -> Source:
    """Reads every file whole. Raises `LogError` for one that is empty or cannot be read."""
    never = Event()
    with bar("checking the files", len(files), "files") as advance:
        described = []
        for log in files:
            described.append(_described(log, never))
            advance(1)
    return Source(format=form.name, files=tuple(described))


@contextmanager
def source_beside(
    files: Sequence[LogFile], form: Format, found: Source | None = None
) -> Iterator[Callable[[], Source]]:
    """The same by a thread of its own, beside whatever the block does; what is yielded waits for it, and raises what
    `source_of` would. A file that is empty is known at once, and a block that fails waits for nothing. `found`: what
    `source_of` said already; nothing is read then."""
    if found is not None:
        yield lambda: found
        return
    for log in files:
        _size(log)
    done = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="ingest-source") as pool:
        described = [pool.submit(_described, log, done) for log in files]
        try:
            yield lambda: Source(format=form.name, files=tuple(future.result() for future in described))
        finally:
            done.set()
            for future in described:
                future.cancel()


def _described(log: LogFile, given_up: Event) -> SourceFile:
    size, digest = _size(log), hashlib.sha256()
    try:
        with log.path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                if given_up.is_set():
                    raise _GivenUp
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(log, error) from error
    return SourceFile(name=log.path.name, bytes=size, sha256=digest.hexdigest())


def _size(log: LogFile) -> int:
    try:
        size = log.path.stat().st_size
    except OSError as error:
        raise _unreadable(log, error) from error
    if not size:
        raise LogError(f"{log.path}: empty, not even a header")
    return size


def _unreadable(log: LogFile, error: OSError) -> LogError:
    return LogError(f"{log.path}: cannot be read: {error.strerror}")
