"""How an input reaches the disk: an upload as it streams in, or a file of the allowed folder. Its sha256 tells it from
others, and is found without the disk where only that is wanted."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from fastapi import Request

from service.problems import ProblemError
from service.scoring.threads import Stop, in_thread
from service.security.names import NameRefused, open_inside

TYPES = (
    "application/x-ndjson",
    "application/vnd.apache.parquet",
    "application/gzip",
    "application/x-gzip",
    "application/octet-stream",
)
"""The contents decide what a file is; its declared type only says that it is one."""
PIECE = 1 << 20
_CLOSE = {"Connection": "close"}


async def upload(request: Request, to: Path | None, limit: int, patience: float) -> str:
    """Write the body to `to`, if that is anywhere, and return its sha256. `patience`: seconds without a byte.

    Raises `ProblemError` (415, 413, 408, 422 for an empty body), `ClientDisconnect`, `OSError`.
    """
    _check(request)
    too_large = ProblemError("body-too-large", f"At most {limit} bytes are read here: split the file.", headers=_CLOSE)
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise too_large
    with _Sink(to, limit, too_large) as sink:
        await in_thread(sink.open)
        async for piece in _pieces(request, patience):
            await in_thread(sink.write, piece)
        if not sink.total:
            raise ProblemError("broken-file", "The body is empty: send the file as the body.")
        return await in_thread(sink.finish)


async def _pieces(request: Request, patience: float) -> AsyncIterator[bytes]:
    """The body in pieces of about `PIECE` bytes."""
    stream = request.stream()
    held = bytearray()
    while True:
        try:
            async with asyncio.timeout(patience):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise ProblemError(
                "body-timeout", f"For {patience:g} seconds nothing of the body arrived.", headers=_CLOSE
            ) from None
        held += chunk or b""
        if held and (chunk is None or len(held) >= PIECE):
            yield bytes(held)
            held.clear()
        if chunk is None:
            return


def _check(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in TYPES:
        raise ProblemError(
            "not-a-file", f"Content-Type must be one of {', '.join(TYPES)}; or application/json, to name a file."
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(
            "not-a-file", "Content-Encoding must be absent: send a gzipped file as it is, as application/gzip."
        )


async def named(folder: Path, name: str, to: Path | None, limit: int) -> str:
    """Copy the plain file `name` below `folder` to `to`, if that is anywhere, and return its sha256: what happens to
    the file later is no matter.

    Raises `ProblemError` where there is no such file (a link is none), or it is too large; `OSError`.
    """
    stop = Stop()
    return await stop.in_thread(_copied, folder, name, to, limit, stop)


def _copied(folder: Path, name: str, to: Path | None, limit: int, stop: Stop) -> str:
    try:
        file = open_inside(folder, name)
    except (NameRefused, FileNotFoundError, PermissionError):
        raise ProblemError("no-such-file", "The folder of this service has no plain file of that name.") from None
    too_large = ProblemError("file-too-large", f"At most {limit} bytes are read here: split the file.")
    with file, _Sink(to, limit, too_large) as sink:
        sink.open()
        while piece := file.read(PIECE):
            stop.check()
            sink.write(piece)
        return sink.finish()


class _Sink:
    """Where the bytes of an input go: they are counted, hashed and, where `to` is anywhere, written. Blocks."""

    def __init__(self, to: Path | None, limit: int, too_large: ProblemError) -> None:
        self._digest = hashlib.sha256()
        self._limit = limit
        self._too_large = too_large
        self._to = to
        self._file: FileIO | None = None
        self.total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def open(self) -> None:
        """Raises `OSError`."""
        if self._to is not None:
            self._file = _new(self._to)

    def write(self, piece: bytes) -> None:
        """Raises `too_large`, `OSError`."""
        self.total += len(piece)
        if self.total > self._limit:
            raise self._too_large
        self._digest.update(piece)
        left = memoryview(piece)
        while self._file is not None and left:
            left = left[self._file.write(left) :]

    def finish(self) -> str:
        """The sha256, once everything is on the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return self._digest.hexdigest()


def _new(path: Path) -> FileIO:
    return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
