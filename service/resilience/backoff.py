"""Growing pauses between attempts."""

from __future__ import annotations

from random import Random


class Backoff:
    """Every pause is twice the one before, from `first` up to `most` seconds, less a random part of up to a half, so
    that several services do not ask a server that comes back in step."""

    def __init__(self, random: Random, *, first: float = 0.2, most: float = 3.0) -> None:
        self._random = random
        self._first = first
        self._most = most
        self._pause = first

    def next(self) -> float:
        """Seconds."""
        pause = self._pause
        self._pause = min(2 * pause, self._most)
        return pause * (1 - 0.5 * self._random.random())

    def reset(self) -> None:
        self._pause = self._first


class Restarts:
    """Pauses before something that died is started anew: none the first time, growing ones where it dies soon again or
    cannot be started. A life of `long` seconds makes the next death the first one again: it has nothing to do with
    those before."""

    def __init__(self, backoff: Backoff, long: float) -> None:
        self._backoff = backoff
        self._long = long
        self._again = False

    def died(self, life: float) -> float:
        """Seconds to wait, now that it died after `life` seconds."""
        if life >= self._long:
            self._backoff.reset()
            self._again = False
        if not self._again:
            self._again = True
            return 0.0
        return self._backoff.next()

    def failed(self) -> float:
        """Seconds to wait, now that it could not be started."""
        self._again = True
        return self._backoff.next()
