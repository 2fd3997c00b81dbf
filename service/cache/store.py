"""The port: a place that keeps bytes by key for a while, and may fail at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class StoreError(RuntimeError):
    """The store did not answer. It costs time, never an answer: the caller goes on without it.

    `kind` is short and from a closed set (`down`, `timeout`, `refused`, `backing_off`), so that errors can be counted.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Store(Protocol):
    """Both methods may be called from many tasks at once, and their callers may be cancelled at any time."""

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The records of the keys, in their order; None where there is none. Raises `StoreError`."""

    async def put_many(self, records: Mapping[bytes, bytes]) -> None:
        """Keep the records for the store's lifetime of an entry. Raises `StoreError`."""

    async def close(self) -> None:
        """Release everything; idempotent."""
