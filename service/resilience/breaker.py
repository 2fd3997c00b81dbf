"""A circuit breaker: remembers that something is broken, so that nobody waits for it in vain."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from service.resilience.backoff import Backoff

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Closed: calls pass. Open: none does, until a pause is over. Half open: one probe is under way.

    It opens after `threshold` failures without a success between them, or at once where it is told so. A call brings
    the ticket that it took when it began: what began before the circuit last changed says nothing about now.
    `clock`: seconds that never jump.
    """

    def __init__(self, backoff: Backoff, *, threshold: int = 5, clock: Callable[[], float] = time.monotonic) -> None:
        self._backoff = backoff
        self._threshold = threshold
        self._clock = clock
        self._failures = 0
        self._due = 0.0
        self._changes = 0
        self.state: State = "closed"

    @property
    def closed(self) -> bool:
        return self.state == "closed"

    @property
    def ticket(self) -> int:
        return self._changes

    @property
    def wait(self) -> float:
        """Seconds until the next probe is due; 0 where none is to be waited for."""
        return max(self._due - self._clock(), 0.0) if self.state == "open" else 0.0

    def succeeded(self, ticket: int) -> None:
        """A call was answered."""
        if self.closed and ticket == self._changes:
            self._failures = 0
            self._backoff.reset()

    def failed(self, ticket: int, *, at_once: bool = False) -> bool:
        """A call was not; whether the circuit opened because of it."""
        if not self.closed or ticket != self._changes:
            return False
        self._failures += 1
        if self._failures < self._threshold and not at_once:
            return False
        self._open()
        return True

    def half_open(self) -> None:
        """The pause is over: a probe goes out."""
        self._turn("half_open")

    def reopen(self) -> None:
        """The probe failed; the next pause is longer."""
        self._open()

    def close(self) -> None:
        """The probe was answered. The pauses start anew only with the first real answer: where probes pass and calls
        fail, they go on growing."""
        self._failures = 0
        self._turn("closed")

    def _open(self) -> None:
        self._due = self._clock() + self._backoff.next()
        self._turn("open")

    def _turn(self, state: State) -> None:
        self.state = state
        self._changes += 1
