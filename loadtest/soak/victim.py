"""`hetlm`, with what cannot be done or seen from outside: `python -m loadtest.soak.victim serve ...`

SIGUSR1: the embedded engine's thread dies, of something that is not even an `Exception`, at the next batch that it is
to compute. SIGUSR2: the clock of the day begins to jump, by days, at every look; or stops jumping. And to the file that
`LOADTEST_TASKS` names, the number of the event loop's tasks is added every second.
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

JUMPED = "looks at a clock that jumped:"
DAYS = 100
_DAY_SECONDS = 86_400.0

TASKS = "LOADTEST_TASKS"
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


def counting(run: Callable[[Coroutine[object, object, T]], T], to: Path) -> Callable[[Coroutine[object, object, T]], T]:
    """Wraps `asyncio.run`: every second a line with the loop's time and its number of tasks goes to `to`. No task of
    its own does it."""

    async def counted(work: Coroutine[object, object, T]) -> T:
        loop = asyncio.get_running_loop()

        def count() -> None:
            with to.open("a") as file:
                print(f"{loop.time():.3f} {len(asyncio.all_tasks(loop))}", file=file)
            loop.call_later(_SECOND, count)

        count()
        return await work

    return lambda work: run(counted(work))


def main() -> None:
    import browsing.engines.local as local
    from browsing.cli import main as hetlm
    from browsing.engines.local import advance

    bomb, clock = Bomb(advance), Clock(time.time)
    setattr(local, "advance", bomb)  # noqa: B010 - the name that the engine's thread looks up
    time.time = clock
    signal.signal(signal.SIGUSR1, lambda *_: bomb.light())
    signal.signal(signal.SIGUSR2, lambda *_: clock.turn())
    if to := os.environ.get(TASKS):
        asyncio.run = counting(asyncio.run, Path(to))  # type: ignore[assignment]
    hetlm()


if __name__ == "__main__":
    main()
