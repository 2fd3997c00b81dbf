"""Embedders of several bundles over one cache: those that would compute the same share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from browsing.bundle import EncoderInfo
from browsing.encoder import Encoder, source_sha256
from service.cache.embedder import CacheMeter, Embedder
from service.cache.record import Keys
from service.cache.store import Store

Identity = tuple[str, str, str, int]
"""Of an encoder: its kind, its weights, its tokenizer, its dimension. Of one that rounds its weights, as SBERT in int8
does, the rounded ones are its own, and a manifest names those that they were made of."""


class _Borrowed:
    """A store that outlives who uses it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return await self._store.get_many(keys)

    async def put_many(self, records: Mapping[bytes, bytes]) -> None:
        await self._store.put_many(records)

    async def close(self) -> None:
        """It is not ours."""


@dataclass(slots=True)
class _Held:
    encoder: Encoder
    embedder: Embedder
    users: int = 0


class Lease:
    """A bundle's right to an embedder, until it is returned."""

    def __init__(self, held: dict[tuple[object, ...], _Held], key: tuple[object, ...]) -> None:
        self._all = held
        self._key: tuple[object, ...] | None = key
        held[key].users += 1
        self.embedder = held[key].embedder

    async def release(self) -> None:
        """The last one ends the embedder; idempotent."""
        key, self._key = self._key, None
        if key is None:
            return
        held = self._all[key]
        held.users -= 1
        if not held.users:
            del self._all[key]
            await held.embedder.close()


class Embedders:
    """A vector depends on the encoder and on the page rules (`service.cache.record.Keys`). With SBERT both are mostly
    the same, and what one bundle has cached another finds; an encoder of a bundle's own weights is not."""

    def __init__(self, store: Store, secret: bytes, meter: CacheMeter, threads: int | None = None) -> None:
        """`threads`: that each encoder computes with; by default torch's."""
        self._store = _Borrowed(store)
        self._threads = threads
        self._secret = secret
        self._meter = meter
        self._held: dict[tuple[object, ...], _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def encoder(self, wanted: EncoderInfo) -> Encoder | None:
        """One that is loaded already, if it is the wanted one."""
        identity = (wanted.kind, wanted.weights_sha256, wanted.tokenizer_sha256, wanted.dimension)
        return next(
            (
                held.encoder
                for held in self._held.values()
                if _identity(held.encoder, source_sha256(held.encoder)) == identity
            ),
            None,
        )

    def lease(self, encoder: Encoder, rule_version: str) -> Lease:
        """An embedder over `encoder`, or over its equal."""
        key = (*_identity(encoder, encoder.weights_sha256), encoder.max_tokens, rule_version)
        if key not in self._held:
            keys = Keys(self._secret, encoder, rule_version)
            self._held[key] = _Held(encoder, Embedder(encoder, self._store, keys, self._meter, self._threads))
        return Lease(self._held, key)


def _identity(encoder: Encoder, weights: str) -> Identity:
    return (encoder.kind, weights, encoder.tokenizer_sha256, encoder.dimension)
