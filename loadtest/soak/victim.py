"""`hetlm`, with what cannot be done or seen from outside: `python -m loadtest.soak.victim serve ...`

SIGUSR1: the embedded engine's thread dies, of something that is not even an `Exception`, at the next batch that it is
to compute. SIGUSR2: the clock of the day begins to jump, by days, at every look; or stops jumping. And to the file that
`LOADTEST_INSIDE` names, a line is added every second: the number of the event loop's tasks, what the allocator holds.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

from loadtest.soak.allocator import heap

JUMPED = "looks at a clock that jumped:"
DAYS = 100
_DAY_SECONDS = 86_400.0

INSIDE = "LOADTEST_INSIDE"
_SECOND = 1.0

T = TypeVar("T")


class Death(BaseException):
    """What no worker expects."""


class Bomb:
    """Wraps a function: once lit, its next call raises `Death`, and none after it."""

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call
        self._lit = False

    def light(self) -> None:
        self._lit = True

    def __call__(self, *arguments: object, **named: object) -> object:
        if self._lit:
            self._lit = False
            raise Death
        return self._call(*arguments, **named)


class Clock:
    """Wraps `time.time`: while it jumps, every look is another day within `DAYS` of the right one. `looks`: how many
    such looks there were."""

    def __init__(self, right: Callable[[], float], seed: int = 0) -> None:
        self._right = right
        self._draw = random.Random(seed)
        self._jumps = False
        self.looks = 0

    def turn(self) -> None:
        """Begin to jump; or stop, and say so."""
        self._jumps = not self._jumps
        if not self._jumps:
            print(f"{JUMPED} {self.looks}", file=sys.stderr, flush=True)

    def __call__(self) -> float:
        if not self._jumps:
            return self._right()
        self.looks += 1
        return self._right() + self._draw.uniform(-DAYS, DAYS) * _DAY_SECONDS


def telling(run: Callable[[Coroutine[object, object, T]], T], to: Path) -> Callable[[Coroutine[object, object, T]], T]:
    """Wraps `asyncio.run`: every second a line goes to `to`, the loop's time, its number of tasks and, where the
    allocator tells, `Heap`'s numbers. No task of its own does it."""
    read = heap()

    async def told(work: Coroutine[object, object, T]) -> T:
        loop = asyncio.get_running_loop()

        def tell() -> None:
            found = read() if read is not None else None
            allocated = f" {found.held} {found.kept} {found.objects}" if found is not None else ""
            with to.open("a") as file:
                print(f"{loop.time():.3f} {len(asyncio.all_tasks(loop))}{allocated}", file=file)
            loop.call_later(_SECOND, tell)

        tell()
        return await work

    return lambda work: run(told(work))


def main() -> None:
    import browsing.engines.worker as worker
    from browsing.cli import main as hetlm
    from browsing.engines.worker import advance

    bomb, clock = Bomb(advance), Clock(time.time)
    setattr(worker, "advance", bomb)  # noqa: B010 - the name that the engine's thread looks up
    time.time = clock
    signal.signal(signal.SIGUSR1, lambda *_: bomb.light())
    signal.signal(signal.SIGUSR2, lambda *_: clock.turn())
    if to := os.environ.get(INSIDE):
        asyncio.run = telling(asyncio.run, Path(to))  # type: ignore[assignment]
    hetlm()


if __name__ == "__main__":
    main()
