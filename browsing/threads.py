"""How many threads torch computes with, thread by thread of our own.

GNU's OpenMP gives every thread that computes helpers of its own, and lets none of them wait awake once a process has
more of them than the machine has cores: from then on each operation of a small model begins by waking someone, and two
threads take twice as long as one. So whoever computes little does it alone, and the embedded engine asks for helpers
only where a step is worth them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

WORTH = 100_000_000
"""Multiplications from which on helpers are no loss: a millisecond or two of one core."""


def keep_to(threads: int) -> None:
    """This thread computes with so many from now on, whatever others choose. Raises `ValueError` for less than 1."""
    if threads < 1:
        raise ValueError(f"{threads} threads: at least 1 is needed")
    torch.set_num_threads(threads)
    _mkl()(threads)


@contextmanager
def as_many_as_pay(multiplications: int, most: int) -> Iterator[None]:
    """To the end of the block this thread computes alone what is small, and with `most` threads what is not."""
    before = torch.get_num_threads()
    keep_to(most if multiplications >= WORTH else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _mkl()(0)


def shares(threads: int) -> tuple[int, int]:
    """Of the embedded engine and of an encoder beside it: together no more than there are, but for one core or two, on
    which the encoder computes alone."""
    encoder = max(1, threads // 2)
    return (threads if encoder == 1 else threads - encoder), encoder


@cache
def _mkl() -> Callable[[int], object]:
    """Sets the calling thread's own number for MKL, which otherwise has one for the whole process; 0 takes it back.
    Does nothing where torch computes without MKL."""
    try:
        own = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return lambda _: None
    own.argtypes, own.restype = [ctypes.c_int], ctypes.c_int
    called: Callable[[int], object] = own
    return called
