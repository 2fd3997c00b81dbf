"""How often a caller may ask: a token bucket for each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second`: tokens that come back each second; `burst`: how many there are at most. A prediction costs one."""

    per_second: float
    burst: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Rates:
    """One bucket per caller, in this process: n replicas together let through n times as much.

    What a request costs is known only when it is read. It is let in if one token is there, and pays the rest
    afterwards, into debt if need be: then the caller waits until the debt is paid.
    """

    def __init__(self, default: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._default = default
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def enter(self, name: str, rate: Rate | None = None) -> float:
        """Take one token. Returns 0.0, or how many seconds there will be none."""
        rate = rate or self._default
        bucket = self._filled(name, rate)
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) / rate.per_second

    def pay(self, name: str, tokens: int) -> None:
        """What a request that is in costs beyond the first token."""
        bucket = self._buckets.get(name)
        if bucket is not None:
            bucket.tokens -= tokens

    def _filled(self, name: str, rate: Rate) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(rate.burst, now))
        bucket.tokens = min(rate.burst, bucket.tokens + (now - bucket.at) * rate.per_second)
        bucket.at = now
        return bucket


def retry_after(seconds: float) -> str:
    """The header's value: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))
