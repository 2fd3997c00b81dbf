"""Gzip, read in steps that are short whatever the file holds."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE = 16_384
"""Compressed bytes per step. Small: what a member leaves over is copied once per member."""


class Gunzip(io.RawIOBase):
    """The contents of a gzip file. `step` is called every few kilobytes of it, and `member` at the start of each
    member; either may raise.

    `gzip.GzipFile` looks for the next byte through any number of empty members, through padding and endless names, all
    within one call, and nothing can stop it there. Raises `EOFError` where the file ends early, `zlib.error` for
    damage.
    """

    def __init__(self, file: BinaryIO, step: Callable[[], None], member: Callable[[], None]) -> None:
        self._file = file
        self._step = step
        self._begins = member
        self._member: zlib._Decompress | None = None
        self._held = b""
        self._more = False
        self._ended = False

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while not (piece := self._next(len(view))) and not self._ended:
            pass
        view[: len(piece)] = piece
        return len(piece)

    def _next(self, most: int) -> bytes:
        """What one step brings: at most `most` bytes, and perhaps none long before the end."""
        self._step()
        if not self._held and not self._more:
            self._held = self._file.read(PIECE)
            if not self._held:
                if self._member is not None:
                    raise EOFError
                self._ended = True
                return b""
        if self._member is None:
            self._held = self._held.lstrip(b"\0")  # padding between members
            if not self._held:
                return b""
            self._begins()
            self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        piece = self._member.decompress(self._held, most)
        self._more = len(piece) == most  # there may be more without a further byte of input
        self._held = self._member.unconsumed_tail
        if self._member.eof:
            self._held, self._more, self._member = self._member.unused_data, False, None
        return piece
