"""The in-process cache: least recently used entries go first, and none outlives its time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence


class MemoryStore:
    """At most `max_entries` records, each for `ttl_seconds`. Used from one event loop, so no locks."""

    def __init__(
        self, max_entries: int = 100_000, ttl_seconds: float = 86_400, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_entries = max_entries
        self._ttl = ttl_seconds
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._get(key) for key in keys]

    def _get(self, key: bytes) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, record = entry
        if expires <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return record

    async def put_many(self, records: Mapping[bytes, bytes]) -> None:
        expires = self._clock() + self._ttl
        for key, record in records.items():
            self._entries[key] = (expires, record)
            self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def close(self) -> None:
        self._entries.clear()
