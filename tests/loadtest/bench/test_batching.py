"""Dynamic batching: who comes together is computed together, up to a limit; errors reach everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from loadtest.bench.peers.batching import Batcher


def batched(questions: Sequence[int], most: int) -> tuple[list[int], list[list[int]]]:
    batches: list[list[int]] = []

    def square(asked: Sequence[int]) -> list[int]:
        batches.append(list(asked))
        if 13 in asked:
            raise ValueError("unlucky")
        return [number**2 for number in asked]

    async def ask() -> list[int]:
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, int] = Batcher(square, executor, asyncio.Lock(), window=0.05, most=most)
            return await asyncio.gather(*(batcher.ask(number) for number in questions))

    return asyncio.run(ask()), batches


def test_a_batch_is_full_or_its_window_over() -> None:
    answers, batches = batched(range(7), most=3)
    assert answers == [number**2 for number in range(7)]
    assert batches == [[0, 1, 2], [3, 4, 5], [6]]


def test_an_error_is_everybodys() -> None:
    with pytest.raises(ValueError, match="unlucky"):
        batched([12, 13], most=4)
