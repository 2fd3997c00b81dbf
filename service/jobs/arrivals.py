"""How an input reaches the disk: an upload as it streams in, or a file of the allowed folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
from collections.abc import AsyncIterator
from io import FileIO
from pathlib import Path

from fastapi import Request

from service.jobs.documents import FILE_NAME
from service.problems import ProblemError
from service.scoring.scorer import in_thread

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


async def upload(request: Request, to: Path, limit: int, patience: float) -> str:
    """Write the body to `to`, and return its sha256. `patience`: seconds without a byte.

    Raises `ProblemError` (415, 413, 408, 422 for an empty body), `ClientDisconnect`, `OSError`.
    """
    _check(request)
    too_large = ProblemError("body-too-large", f"At most {limit} bytes are read here: split the file.", headers=_CLOSE)
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise too_large
    digest = hashlib.sha256()
    total = 0
    with await in_thread(_new, to) as file:

        def keep(piece: bytes) -> None:
            digest.update(piece)
            _write(file, piece)

        async for piece in _pieces(request, patience):
            total += len(piece)
            if total > limit:
                raise too_large
            await in_thread(keep, piece)
        if not total:
            raise ProblemError("broken-file", "The body is empty: send the file as the body.")
        await in_thread(os.fsync, file.fileno())
    return digest.hexdigest()


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


def copy(folder: Path, name: str, to: Path, limit: int) -> None:
    """Copy a plain file of `folder` itself; what happens to it later is no matter. Blocks.

    Raises `ProblemError` where there is no such file (a link is none), or it is too large; `OSError`.
    """
    missing = ProblemError("broken-file", "The folder of this service has no plain file of that name.")
    if not re.fullmatch(FILE_NAME, name):
        raise missing
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    except OSError:
        raise missing from None
    finally:
        os.close(root)
    if not stat.S_ISREG(os.fstat(source).st_mode):
        os.close(source)
        raise missing
    with FileIO(source, "rb") as given:
        total = 0
        with _new(to) as file:
            while piece := given.read(PIECE):
                total += len(piece)
                if total > limit:
                    raise ProblemError("file-too-large", f"At most {limit} bytes are read here: split the file.")
                _write(file, piece)
            os.fsync(file.fileno())


def _new(path: Path) -> FileIO:
    return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _write(file: FileIO, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[file.write(left) :]
