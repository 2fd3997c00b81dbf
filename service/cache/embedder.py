"""From sessions to vectors, through the cache: what is known is looked up, what is new is encoded once, in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, Protocol

import numpy as np

from browsing.encoder import Encoder, Vectors, rounded
from browsing.threads import keep_to
from service.cache.record import Keys, pack, unpack
from service.cache.store import Store, StoreError

Lookup = Literal["hit", "miss", "joined", "corrupt"]
Pages = tuple[str, ...]

MAX_BATCH = 64
"""Sessions encoded in one go; a larger history does not keep others waiting for all of it."""
PATIENT_BATCH = 32
"""Of sessions that nobody waits for online: whoever comes meanwhile waits for no more than these."""
MOST_PASSED_OVER = 8
"""Online batches in a row while patient sessions wait; then one of theirs has its turn, so that a file moves on."""
CLOSED = "the embedder was closed"
MAX_WRITES = 32
"""Writes under way at once; beyond, new vectors are not kept: a slow store must not fill the memory."""


class CacheMeter(Protocol):
    """What the embedder tells about itself."""

    def lookup(self, result: Lookup, count: int) -> None: ...

    def store_failed(self, operation: Literal["get", "put"], kind: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors`: float32 [sessions, d], values as float16 holds them. `cached`: sessions found in the cache."""

    vectors: Vectors
    cached: int


class Embedder:
    """Sessions that several requests ask for at the same time are encoded once; those that arrive together share a
    batch. Encoding runs in one thread. A request that is cancelled disturbs no other.

    Sessions of online requests and of patient ones (rows of a file) wait apart and never share a batch. Patient ones
    are encoded while nobody waits online, and once in `MOST_PASSED_OVER` batches, so that an online request waits for
    one batch of theirs at most.
    """

    def __init__(
        self, encoder: Encoder, store: Store, keys: Keys, meter: CacheMeter, threads: int | None = None
    ) -> None:
        """`threads`: that torch encodes with; by default as many as it does elsewhere."""
        self._encoder = encoder
        self._store = store
        self._keys = keys
        self._meter = meter
        begin = None if threads is None else partial(keep_to, threads)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="encoder", initializer=begin)
        self._flying: dict[bytes, asyncio.Future[Vectors]] = {}
        self._online: dict[bytes, Pages] = {}
        self._patient: dict[bytes, Pages] = {}
        self._passed_over = 0  # batches of online sessions in a row while patient ones waited
        self._closed = False
        self._worker: asyncio.Task[None] | None = None
        self._writes: set[asyncio.Task[None]] = set()

    async def embed(self, sessions: Sequence[Pages], *, patient: bool = False) -> Embedded:
        """The vectors of `sessions`, in their order. `patient`: after those of everybody who is not. Raises whatever
        the encoder raises."""
        keys = [self._keys.key(pages) for pages in sessions]
        distinct = dict(zip(keys, sessions, strict=True))
        known = await self._look_up(list(distinct))
        cached = sum(key in known for key in keys)
        flights: dict[bytes, asyncio.Future[Vectors]] = {}
        for key, pages in distinct.items():
            if key not in known:
                self._meter.lookup("joined" if key in self._flying else "miss", 1)
                flights[key] = self._board(key, patient) or self._take_off(key, pages, patient)
        if flights:
            await asyncio.wait(flights.values())  # unlike awaiting them, does not cancel what others wait for
            known |= {key: flight.result() for key, flight in flights.items()}
        self._meter.lookup("hit", cached)
        return Embedded(np.stack([known[key] for key in keys]), cached)

    async def _look_up(self, keys: list[bytes]) -> dict[bytes, Vectors]:
        try:
            records = await self._store.get_many(keys)
        except StoreError as error:
            self._meter.store_failed("get", error.kind)
            return {}
        found = {}
        for key, record in zip(keys, records, strict=True):
            if record is None:
                continue
            vector = unpack(key, record, self._encoder.dimension)
            if vector is None:
                self._meter.lookup("corrupt", 1)
            else:
                found[key] = vector
        return found

    def _board(self, key: bytes, patient: bool) -> asyncio.Future[Vectors] | None:
        """What somebody else asked for already; from now on no more patiently than whoever asks."""
        if not patient and key in self._patient:
            self._online[key] = self._patient.pop(key)
        return self._flying.get(key)

    def _take_off(self, key: bytes, pages: Pages, patient: bool) -> asyncio.Future[Vectors]:
        if self._closed:
            raise RuntimeError(CLOSED)
        flight: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        flight.add_done_callback(_retrieved)
        self._flying[key] = flight
        (self._patient if patient else self._online)[key] = pages
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._encode_waiting())
        return flight

    def _next(self) -> list[tuple[bytes, Pages]]:
        """The sessions to encode now, the oldest first."""
        if self._online and not (self._patient and self._passed_over == MOST_PASSED_OVER):
            queue, most = self._online, MAX_BATCH
            self._passed_over += bool(self._patient)
        else:
            queue, most = self._patient, PATIENT_BATCH
            self._passed_over = 0
        return [(key, queue.pop(key)) for key in list(islice(queue, most))]

    async def _encode_waiting(self) -> None:
        """Encode until nothing waits; what arrives during one batch becomes the next."""
        loop = asyncio.get_running_loop()
        while batch := self._next():
            sessions = [pages for _, pages in batch]
            try:
                vectors = rounded(await loop.run_in_executor(self._executor, self._encoder.encode, sessions))
                if vectors.shape != (len(batch), self._encoder.dimension):
                    raise ValueError(f"the encoder gave {vectors.shape} for {len(batch)} sessions")
            except BaseException as error:
                for key, _ in batch:
                    told = error if isinstance(error, Exception) else RuntimeError(CLOSED)
                    self._flying.pop(key).set_exception(told)
                if not isinstance(error, Exception):
                    raise
                continue
            for (key, _), vector in zip(batch, vectors, strict=True):
                self._flying.pop(key).set_result(vector)
            self._keep({key: pack(key, vector) for (key, _), vector in zip(batch, vectors, strict=True)})

    def _keep(self, records: dict[bytes, bytes]) -> None:
        if len(self._writes) >= MAX_WRITES:
            self._meter.store_failed("put", "crowded")
            return
        write = asyncio.create_task(self._put(records))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def _put(self, records: dict[bytes, bytes]) -> None:
        try:
            await self._store.put_many(records)
        except StoreError as error:
            self._meter.store_failed("put", error.kind)

    async def settle(self) -> None:
        """Wait until every vector encoded so far has been offered to the store."""
        while self._writes:
            await asyncio.wait(set(self._writes))

    async def close(self) -> None:
        """End all work. Whoever still waits is told by a `RuntimeError`, which unlike a cancellation does not end the
        request that waits. Closes the store."""
        self._closed = True
        self._online.clear()
        self._patient.clear()
        tasks = [*self._writes, *([self._worker] if self._worker else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for flight in self._flying.values():
            flight.set_exception(RuntimeError(CLOSED))
        self._flying.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)
        await self._store.close()


def _retrieved(flight: asyncio.Future[Vectors]) -> None:
    """Every waiter may be gone when a batch fails; asyncio would complain about its exception."""
    if not flight.cancelled():
        flight.exception()
