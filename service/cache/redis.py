"""The cache in Redis, for several replicas. Every call is short or fails; a dead Redis is left alone for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from service.cache.store import StoreError

PREFIX = b"hetlm:session:"
"""Before every key, so that an operator can tell these entries from others, and an ACL can (docs/security.md)."""

T = TypeVar("T")


class RedisStore:
    """Records under `PREFIX` + key, each with a TTL.

    Every call runs in a task of its own, which the caller's cancellation does not reach: a connection is never left in
    the middle of a reply. (Were it to happen all the same, the key inside the record gives the mistake away.)
    """

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        ttl_seconds: int = 86_400,
        timeout: float = 0.1,
        back_off: float = 1.0,
        connections: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ca_file`: for rediss://, the certificates trusted (PEM) instead of the system's; a server's certificate and
        name are always checked. `timeout`: seconds for a whole call. `back_off`: seconds without a call after one that
        found Redis dead or slow, so that it does not cost its timeout at every request. Raises `ValueError` for a
        malformed URL."""
        self._ttl = ttl_seconds
        self._timeout = timeout
        self._back_off = back_off
        self._clock = clock
        self._down_until = float("-inf")
        self._tasks: set[asyncio.Task[object]] = set()
        pool = BlockingConnectionPool.from_url(  # a crowd waits for a connection, up to the call's own timeout
            url,
            timeout=None,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            max_connections=connections,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,  # no CLIENT SETINFO: MGET and SET are all that Redis is ever asked for
            **({"ssl_ca_certs": str(ca_file)} if ca_file is not None else {}),
        )
        self._client: Redis = Redis.from_pool(pool)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        names = [PREFIX + key for key in keys]
        replies = await self._call(lambda: cast("Awaitable[list[object]]", self._client.mget(names)))
        if not isinstance(replies, list) or len(replies) != len(keys):
            raise StoreError("refused")
        return [reply if isinstance(reply, bytes) else None for reply in replies]

    async def put_many(self, records: Mapping[bytes, bytes]) -> None:
        if records:
            await self._call(lambda: self._put(records))

    async def _put(self, records: Mapping[bytes, bytes]) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            for key, record in records.items():
                pipeline.set(PREFIX + key, record, ex=self._ttl)
            await pipeline.execute()

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` in its own task and wait for it. Raises `StoreError`."""
        task: asyncio.Task[T] = asyncio.ensure_future(self._within(work))
        held = cast("asyncio.Task[object]", task)
        self._tasks.add(held)
        held.add_done_callback(self._finished)
        await asyncio.wait((task,))
        return task.result()

    async def _within(self, work: Callable[[], Awaitable[T]]) -> T:
        if self._clock() < self._down_until:
            raise StoreError("backing_off")
        try:
            async with asyncio.timeout(self._timeout):
                return await work()
        except (TimeoutError, RedisTimeout) as error:
            self._down_until = self._clock() + self._back_off
            raise StoreError("timeout") from error
        except ResponseError as error:  # it lives, and refuses this call: out of memory, loading, read only
            raise StoreError("refused") from error
        except (RedisError, OSError) as error:
            self._down_until = self._clock() + self._back_off
            raise StoreError("down") from error

    def _finished(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be waiting any more; asyncio would complain about it

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()
