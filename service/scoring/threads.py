"""Blocking work in threads: who is cancelled waits for it, and can tell it to hurry."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Stopped(Exception):
    """Nobody waits for this work any more."""


class Stop:
    """Tells a thread that nobody waits for it any more. Work that may take long calls `check` every few milliseconds,
    above all in loops that bring nothing forth."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        """Raises `Stopped`."""
        if self._event.is_set():
            raise Stopped

    async def in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `in_thread`; who is cancelled sets this stop, which `call` must know."""
        return await unbroken(asyncio.to_thread(call, *args, **kwargs), self.set)


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`; but who is cancelled waits until the thread has let go of its files."""
    return await unbroken(asyncio.to_thread(call, *args, **kwargs))


async def unbroken(work: Awaitable[T], hurry: Callable[[], None] | None = None) -> T:
    """`work`, from its beginning to its end: who is cancelled calls `hurry`, and waits for the end all the same."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if hurry is not None:
            hurry()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # nobody is left to hear of it
        raise
