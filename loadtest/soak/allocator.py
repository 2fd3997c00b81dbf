"""What the C library's allocator holds in this process, and what it keeps although it was freed."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass


class _Mallinfo2(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heap:
    """`held`: bytes that somebody has allocated and not freed, over all arenas and mapped blocks. `kept`: bytes that
    were freed and still belong to an arena, whether in memory or given back. `objects`: blocks of Python's own small
    allocator in use, which takes its arenas from the system and not from the C library."""

    held: int
    kept: int
    objects: int


def heap() -> Callable[[], Heap] | None:
    """Reads it; None where the C library does not tell (glibc does, from 2.33 on)."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return None
    mallinfo2.argtypes, mallinfo2.restype = [], _Mallinfo2

    def read() -> Heap:
        told = mallinfo2()
        return Heap(told.uordblks + told.hblkhd, told.fordblks, sys.getallocatedblocks())

    return read
