"""The time of day that jobs go by: one that does not jump."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady(day: Callable[[], float] = time.time, passed: Callable[[], float] | None = None) -> Callable[[], float]:
    """Seconds since 1970: `day` as it is now, and from now on what has `passed`. However the machine's clock is set
    meanwhile, no result expires early or late for it; the next start takes the clock as it is then. By default the time
    that the machine slept counts, too."""
    passed = passed or (lambda: time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)))
    ahead = day() - passed()
    return lambda: ahead + passed()
