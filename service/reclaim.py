"""Memory that was freed goes back to the operating system as soon as nobody is waiting.

The C library keeps what a burst of large batches has needed, by default in arenas of every thread's own, and a
service's memory then climbs from burst to burst although nothing is held.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two looks."""
WORTH = 8 << 20
"""Bytes that must have come since the last time: for less it is not worth the milliseconds that it takes."""
PATIENCE = 30.0
"""Seconds that it waits for a moment without requests: a machine with too much to do has none for hours."""
LONGEST = 600.0
"""Most seconds between two looks: each that gives back less than `WORTH`, since the process holds what it has, doubles
them."""
ARENAS = 2
"""Of the C library's, instead of eight per core: what one thread has freed another can use, and less lies idle."""
_M_ARENA_MAX = -8


def few_arenas() -> None:
    """The process's threads share `ARENAS` arenas. To be called before there are threads; where the C library knows
    nothing of it, nothing happens."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def glibc_trim() -> Callable[[], object] | None:
    """The C library's `malloc_trim(0)`, which runs beside other Python threads; None where there is none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    trim.argtypes = [ctypes.c_size_t]
    return lambda: trim(0)


def resident() -> int:
    """Bytes of this process in memory. Raises `OSError` where the system does not say."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Reclaim:
    """`quiet` returns in a moment in which nobody waits for an answer; after `patience` seconds without one it is done
    all the same. `trim` gives freed memory back, and may take some hundredths of a second. `resident`: bytes in
    memory now."""

    def __init__(
        self,
        quiet: Callable[[], Awaitable[object]],
        *,
        trim: Callable[[], object] | None,
        resident: Callable[[], int] = resident,
        every: float = EVERY,
        patience: float = PATIENCE,
    ) -> None:
        self._quiet = quiet
        self._trim = trim
        self._resident = resident
        self._every = every
        self._patience = patience

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks after the process's memory, to the end of the block."""
        trim = self._trim
        if trim is None:
            yield
            return
        try:
            least = self._resident()
        except OSError as error:  # nothing depends on it
            logger.info("memory is not given back: what is resident is not told (%s)", error.strerror)
            yield
            return
        looking = asyncio.create_task(self._look_after(least, trim))
        try:
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def _look_after(self, least: int, trim: Callable[[], object]) -> None:
        pause = self._every
        while True:
            await asyncio.sleep(pause)
            if (before := self._resident()) < least + WORTH:
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._quiet(), self._patience)
            await asyncio.to_thread(trim)
            after = self._resident()
            # Beside work that goes on more is held than stays, so the bar is the least that was seen.
            least = min(least, after)
            pause = self._every if before - after >= WORTH else min(2 * pause, LONGEST)
