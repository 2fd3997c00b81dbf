"""Dynamic batching: what arrives within a few milliseconds for one cluster is computed together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """`compute`: answers a batch, in its order; runs in `executor`. `turn`: held while it does, by one batcher at a
    time; what comes meanwhile joins the next batch. `window`: seconds for which the first of a batch waits for others.
    `most`: of one batch."""

    def __init__(
        self,
        compute: Callable[[Sequence[Q]], Sequence[A]],
        executor: Executor,
        turn: asyncio.Lock,
        *,
        window: float,
        most: int,
    ) -> None:
        self._compute = compute
        self._executor = executor
        self._turn = turn
        self._window = window
        self._most = most
        self._waiting: asyncio.Queue[tuple[Q, asyncio.Future[A]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """Raises what `compute` raises."""
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((question, answer))
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            await self._fill(batch, loop.time() + self._window)
            async with self._turn:
                while len(batch) < self._most and not self._waiting.empty():
                    batch.append(self._waiting.get_nowait())
                try:
                    asked = [question for question, _ in batch]
                    answers = await loop.run_in_executor(self._executor, self._compute, asked)
                except Exception as error:
                    for _, answer in batch:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
            for (_, answer), given in zip(batch, answers, strict=True):
                if not answer.done():
                    answer.set_result(given)

    async def _fill(self, batch: list[tuple[Q, asyncio.Future[A]]], closes: float) -> None:
        while len(batch) < self._most:
            try:
                async with asyncio.timeout_at(closes):
                    batch.append(await self._waiting.get())
            except TimeoutError:
                return
