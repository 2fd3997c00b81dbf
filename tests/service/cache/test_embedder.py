from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from browsing.encoder import Vectors, rounded
from service.cache.embedder import MAX_BATCH, MAX_WRITES, PATIENT_BATCH, Embedder
from service.cache.memory import MemoryStore
from service.cache.record import Keys, pack
from service.cache.redis import RedisStore
from service.cache.store import Store, StoreError
from tests.service.building import CountingEncoder
from tests.service.redis_server import RedisServer
from tests.tiny import TinyEncoder

ROUNDS = 5_000 if os.environ.get("HETLM_SOAK") else 50
"""Of 20 cancelled calls each."""

KEYS = Keys(b"a secret of a deployment", TinyEncoder(), "r1")
A, B, C = ("/",), ("/", "/bags"), ("/shoes",)


class Meter:
    def __init__(self) -> None:
        self.lookups: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()

    def lookup(self, result: str, count: int) -> None:
        self.lookups[result] += count

    def store_failed(self, operation: str, kind: str) -> None:
        self.errors[operation, kind] += 1


class DeadStore:
    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        raise StoreError("down")

    async def put_many(self, records: Mapping[bytes, bytes]) -> None:
        raise StoreError("down")

    async def close(self) -> None:
        pass


class StuckStore(DeadStore):
    """Answers questions, and never finishes a write."""

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [None] * len(keys)

    async def put_many(self, records: Mapping[bytes, bytes]) -> None:
        await asyncio.Event().wait()


class GatedEncoder(CountingEncoder):
    """Waits for `gate` in every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        assert self.gate.wait(10)
        return super().encode(sessions)


def make(encoder: CountingEncoder, store: Store) -> tuple[Embedder, Meter]:
    meter = Meter()
    return Embedder(encoder, store, KEYS, meter), meter


def truth(*sessions: tuple[str, ...]) -> Vectors:
    return rounded(TinyEncoder().encode(sessions))


def test_a_hit_equals_a_miss_and_costs_no_encoding() -> None:
    async def scenario() -> None:
        encoder = CountingEncoder()
        embedder, meter = make(encoder, MemoryStore())
        first = await embedder.embed([A, B])
        await embedder.settle()
        second = await embedder.embed([A, B, C])
        np.testing.assert_array_equal(first.vectors, truth(A, B))
        np.testing.assert_array_equal(second.vectors, truth(A, B, C))
        assert (first.cached, second.cached) == (0, 2)
        assert encoder.encoded == [A, B, C]
        assert meter.lookups == {"miss": 3, "hit": 2}
        await embedder.close()

    asyncio.run(scenario())


def test_a_session_that_comes_twice_in_a_history_is_encoded_once() -> None:
    async def scenario() -> None:
        encoder = CountingEncoder()
        embedder, _ = make(encoder, MemoryStore())
        found = await embedder.embed([A, B, A])
        np.testing.assert_array_equal(found.vectors, truth(A, B, A))
        assert encoder.encoded == [A, B]
        await embedder.close()

    asyncio.run(scenario())


def test_what_several_requests_ask_for_at_once_is_encoded_once_and_together() -> None:
    async def scenario() -> None:
        encoder = GatedEncoder()
        embedder, meter = make(encoder, MemoryStore())
        calls = [asyncio.create_task(embedder.embed([A, (f"/page-{i}",)])) for i in range(10)]
        await asyncio.sleep(0.05)
        encoder.gate.set()
        for i, found in enumerate(await asyncio.gather(*calls)):
            np.testing.assert_array_equal(found.vectors, truth(A, (f"/page-{i}",)))
        assert Counter(encoder.encoded)[A] == 1
        assert len(encoder.batches) <= 2  # the first that came, and all that came while it was encoded
        assert meter.lookups["joined"] == 9
        await embedder.close()

    asyncio.run(scenario())


def test_a_long_history_is_encoded_in_several_batches() -> None:
    async def scenario() -> None:
        encoder = CountingEncoder()
        embedder, _ = make(encoder, MemoryStore())
        sessions = [(f"/page-{i}",) for i in range(MAX_BATCH * 2 + 1)]
        found = await embedder.embed(sessions)
        np.testing.assert_array_equal(found.vectors, truth(*sessions))
        assert [len(batch) for batch in encoder.batches] == [MAX_BATCH, MAX_BATCH, 1]
        await embedder.close()

    asyncio.run(scenario())


def named(name: str, count: int) -> list[tuple[str, ...]]:
    return [(f"/{name}-{number}",) for number in range(count)]


def test_patient_sessions_wait_for_those_of_online_requests() -> None:
    async def scenario() -> None:
        encoder = GatedEncoder()
        embedder, _ = make(encoder, MemoryStore())
        patient = named("row", 2 * PATIENT_BATCH + 1)
        rows = asyncio.create_task(embedder.embed(patient, patient=True))
        await asyncio.sleep(0.05)  # the first batch of rows is under way
        online = [asyncio.create_task(embedder.embed([visit])) for visit in named("online", 3)]
        await asyncio.sleep(0.05)
        encoder.gate.set()
        for visit, found in zip(named("online", 3), await asyncio.gather(*online), strict=True):
            np.testing.assert_array_equal(found.vectors, truth(visit))
        assert not rows.done()
        np.testing.assert_array_equal((await rows).vectors, truth(*patient))
        assert encoder.batches == [
            patient[:PATIENT_BATCH],
            named("online", 3),
            patient[PATIENT_BATCH : 2 * PATIENT_BATCH],
            patient[2 * PATIENT_BATCH :],
        ]
        await embedder.close()

    asyncio.run(scenario())


def test_patient_sessions_have_a_turn_however_much_comes_online() -> None:
    async def scenario() -> None:
        encoder = CountingEncoder()
        embedder, _ = make(encoder, MemoryStore())
        served = asyncio.Event()

        async def crowd(name: str) -> None:
            """Always two sessions ahead of the encoder."""
            number = 0
            while not served.is_set():
                await embedder.embed([(f"/{name}-{number}",)])
                number += 1

        crowds = [asyncio.create_task(crowd(name)) for name in ("a", "b", "c")]
        await asyncio.sleep(0.05)
        found = await asyncio.wait_for(embedder.embed([A], patient=True), 30)
        np.testing.assert_array_equal(found.vectors, truth(A))
        served.set()
        await asyncio.gather(*crowds)
        await embedder.close()

    asyncio.run(scenario())


def test_who_asks_while_it_is_closed_is_told_at_once() -> None:
    class Slow(MemoryStore):
        async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
            await asyncio.sleep(0.2)
            return await super().get_many(keys)

    async def scenario() -> None:
        encoder = GatedEncoder()
        embedder, _ = make(encoder, Slow())
        calls = [asyncio.create_task(embedder.embed([visit], patient=True)) for visit in (A, B)]
        await asyncio.sleep(0.4)
        late = asyncio.create_task(embedder.embed([C]))
        await asyncio.sleep(0.05)
        await embedder.close()
        for call in (*calls, late):
            with pytest.raises(RuntimeError, match="closed"):
                await asyncio.wait_for(call, 30)
        encoder.gate.set()

    asyncio.run(scenario())


def test_a_patient_session_that_is_asked_for_online_waits_no_longer() -> None:
    async def scenario() -> None:
        encoder = GatedEncoder()
        embedder, meter = make(encoder, MemoryStore())
        first = asyncio.create_task(embedder.embed([A]))
        await asyncio.sleep(0.05)
        rows = named("row", PATIENT_BATCH + 5)
        waiting = asyncio.create_task(embedder.embed([*rows, B], patient=True))
        await asyncio.sleep(0.05)
        online = asyncio.create_task(embedder.embed([B, C]))
        joining = asyncio.create_task(embedder.embed([C], patient=True))  # what is in a hurry already stays so
        await asyncio.sleep(0.05)
        encoder.gate.set()
        np.testing.assert_array_equal((await online).vectors, truth(B, C))
        np.testing.assert_array_equal((await waiting).vectors, truth(*rows, B))
        np.testing.assert_array_equal((await joining).vectors, truth(C))
        await first
        assert encoder.batches == [[A], [B, C], rows[:PATIENT_BATCH], rows[PATIENT_BATCH:]]
        assert meter.lookups["joined"] == 2
        await embedder.close()

    asyncio.run(scenario())


def test_patient_sessions_wait_when_it_is_closed_and_are_told() -> None:
    async def scenario() -> None:
        encoder = GatedEncoder()
        embedder, _ = make(encoder, MemoryStore())
        calls = [asyncio.create_task(embedder.embed([visit], patient=True)) for visit in (A, B)]
        await asyncio.sleep(0.05)
        await embedder.close()
        for call in calls:
            with pytest.raises(RuntimeError, match="closed"):
                await call
        encoder.gate.set()

    asyncio.run(scenario())


def test_a_dead_store_costs_no_answer() -> None:
    async def scenario() -> None:
        embedder, meter = make(CountingEncoder(), DeadStore())
        for _ in range(2):
            found = await embedder.embed([A, B])
            np.testing.assert_array_equal(found.vectors, truth(A, B))
            assert found.cached == 0
        await embedder.settle()
        assert meter.errors == {("get", "down"): 2, ("put", "down"): 2}
        await embedder.close()

    asyncio.run(scenario())


def test_a_store_that_never_finishes_a_write_fills_no_memory() -> None:
    async def scenario() -> None:
        embedder, meter = make(CountingEncoder(), StuckStore())
        for i in range(MAX_WRITES + 3):
            await embedder.embed([(f"/page-{i}",)])
        assert meter.errors == {("put", "crowded"): 3}
        await embedder.close()

    asyncio.run(scenario())


def test_damaged_and_foreign_records_are_encoded_anew() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        encoder = CountingEncoder()
        embedder, meter = make(encoder, store)
        foreign = pack(KEYS.key(C), truth(C)[0])
        await store.put_many({KEYS.key(A): b"rubbish", KEYS.key(B): foreign})
        found = await embedder.embed([A, B])
        np.testing.assert_array_equal(found.vectors, truth(A, B))
        assert meter.lookups["corrupt"] == 2
        await embedder.settle()
        assert (await embedder.embed([A, B])).cached == 2  # and mended
        await embedder.close()

    asyncio.run(scenario())


def test_an_encoder_that_fails_fails_its_batch_alone() -> None:
    async def scenario() -> None:
        encoder = CountingEncoder()
        encoder.error = RuntimeError("no memory")
        embedder, _ = make(encoder, MemoryStore())
        with pytest.raises(RuntimeError, match="no memory"):
            await embedder.embed([A])
        encoder.error = None
        np.testing.assert_array_equal((await embedder.embed([A])).vectors, truth(A))
        await embedder.close()

    asyncio.run(scenario())


def test_a_cancelled_request_takes_nothing_from_those_that_wait_for_the_same() -> None:
    async def scenario() -> None:
        encoder = GatedEncoder()
        embedder, _ = make(encoder, MemoryStore())
        first = asyncio.create_task(embedder.embed([A, B]))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(embedder.embed([B, A]))
        await asyncio.sleep(0.02)
        first.cancel()
        await asyncio.sleep(0.02)
        encoder.gate.set()
        np.testing.assert_array_equal((await second).vectors, truth(B, A))
        assert first.cancelled()
        assert encoder.encoded == [A, B]
        await embedder.close()

    asyncio.run(scenario())


@pytest.mark.soak
def test_a_thousand_cancelled_requests_on_a_real_redis_never_get_another_visitors_vectors(
    redis_server: RedisServer,
) -> None:
    draw = random.Random(11)
    answered = 0

    async def scenario() -> None:
        nonlocal answered
        store = RedisStore(redis_server.url, timeout=2.0, back_off=0.0)
        embedder, meter = make(CountingEncoder(), store)

        async def visit(own: int) -> None:
            nonlocal answered
            sessions = [(f"/visitor-{own}", f"/page-{i}") for i in range(draw.randint(1, 4))]
            found = await embedder.embed(sessions)
            np.testing.assert_array_equal(found.vectors, truth(*sessions))
            answered += 1

        loop = asyncio.get_running_loop()
        took = 0.0  # seconds of a round that nobody is cancelled in: a busy machine's patience is longer
        for turn in range(ROUNDS):
            began = loop.time()
            visits = [asyncio.create_task(visit(draw.randrange(60))) for _ in range(20)]
            for call in visits if turn % 10 else ():
                loop.call_later(draw.random() * 1.5 * took, call.cancel)
            ended = await asyncio.gather(*visits, return_exceptions=True)
            assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ended), ended
            if turn % 10 == 0:
                took = loop.time() - began
        await embedder.settle()
        for own in range(60):
            await visit(own)
        assert meter.lookups["hit"] > 0
        assert meter.lookups["corrupt"] == 0
        assert not meter.errors
        await embedder.close()

    asyncio.run(scenario())
    assert 60 < answered < 60 + 20 * ROUNDS, "some were to be cancelled, and some answered"


def test_who_waits_when_it_is_closed_is_told_and_not_cancelled() -> None:
    """A cancellation would end the request, which can do without its embedding."""

    async def scenario() -> None:
        encoder = GatedEncoder()
        embedder, _ = make(encoder, MemoryStore())
        encoding = asyncio.create_task(embedder.embed([A]))
        await asyncio.sleep(0.02)
        queued = asyncio.create_task(embedder.embed([B]))
        await asyncio.sleep(0.02)
        await embedder.close()
        for waiting in (encoding, queued):
            with pytest.raises(RuntimeError, match="closed"):
                await waiting
        encoder.gate.set()

    asyncio.run(scenario())
