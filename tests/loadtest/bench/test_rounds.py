"""Rounds: everybody in alternation, over the same stretch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from loadtest.bench.rounds import Comparison, Level, Rounds, of
from loadtest.bench.subject import Played


@dataclass
class Counting:
    """Takes a second per request, and writes down what it was asked."""

    name: str
    heard: list[tuple[str, range, int]] = field(default_factory=list)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def play(self, numbers: range, concurrency: int) -> Played:
        self.heard.append((self.name, numbers, concurrency))
        return Played(float(len(numbers)), (0.25,) * len(numbers), {"server": 0.5}, 0.1, 1_000)


def test_turns_alternate() -> None:
    heard: list[tuple[str, range, int]] = []
    turns: list[float] = []

    async def product() -> float:
        return 1e9

    rounds = Rounds({name: Counting(name, heard) for name in "ab"}, product, first=10, pause=0.0)
    comparison = Comparison("pair", ("a", "b"), (Level(1, 2), Level(4, 8)), rounds=2, product=True)
    asyncio.run(rounds.play(comparison, turns.append))
    assert heard == [
        ("a", range(10, 12), 1),
        ("b", range(10, 12), 1),
        ("a", range(12, 20), 4),
        ("b", range(12, 20), 4),
        ("b", range(20, 28), 4),
        ("a", range(20, 28), 4),
        ("b", range(28, 30), 1),
        ("a", range(28, 30), 1),
    ]
    assert len(turns) == comparison.turns == 8
    assert [p.per_second for p in rounds.products] == [1e9, 1e9]
    first, second = of(rounds.sides, "pair", "b", 4)
    assert (first.round, second.round) == (0, 1)
    assert first.per_second == 1.0
    assert first.latency_ms.p95 == 250.0
    assert first.cpu_ms == {"server": 62.5}
    assert first.cpu == 62.5
    assert first.generator_cpu_ms == 12.5
