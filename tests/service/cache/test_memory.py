from __future__ import annotations

import asyncio

from service.cache.memory import MemoryStore


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_was_put_is_there_until_its_time_is_over() -> None:
    clock = Clock()

    async def scenario() -> None:
        store = MemoryStore(ttl_seconds=10, clock=clock)
        await store.put_many({b"a": b"1"})
        assert await store.get_many([b"a", b"b", b"a"]) == [b"1", None, b"1"]
        clock.now += 9.9
        assert await store.get_many([b"a"]) == [b"1"]
        clock.now += 0.1
        assert await store.get_many([b"a"]) == [None]
        assert len(store) == 0

    asyncio.run(scenario())


def test_the_least_recently_used_go_first() -> None:
    async def scenario() -> None:
        store = MemoryStore(max_entries=2)
        await store.put_many({b"a": b"1", b"b": b"2"})
        await store.get_many([b"a"])
        await store.put_many({b"c": b"3"})
        assert await store.get_many([b"a", b"b", b"c"]) == [b"1", None, b"3"]
        await store.close()
        assert len(store) == 0

    asyncio.run(scenario())
