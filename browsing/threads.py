"""How many threads torch computes with, thread by thread of our own.

GNU's OpenMP gives every thread that computes helpers of its own, and lets none of them wait awake once a process has
more of them than the machine has cores: from then on each operation of a small model begins by waking someone, and two
threads take twice as long as one. So whoever computes little does it alone, and the embedded engine asks for helpers
only where a step is worth them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORTH = 100_000_000
"""Multiplications from which on helpers are no loss: a millisecond or two of one core."""


def keep_to(threads: int) -> None:
    """This thread computes with so many from now on, whatever others choose. Raises `ValueError` for less than 1."""
    if threads < 1:
        raise ValueError(f"{threads} threads: at least 1 is needed")
    torch.get_num_threads()  # a thread's first look takes the number that was set last in any other: now, not later
    torch.set_num_threads(threads)


@contextmanager
def as_many_as_pay(multiplications: int, most: int) -> Iterator[None]:
    """To the end of the block this thread computes alone what is small, and with `most` threads what is not."""
    before = torch.get_num_threads()
    wanted = most if multiplications >= WORTH else 1
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
