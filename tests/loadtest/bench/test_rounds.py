"""Rounds: everybody in alternation, over the same stretch."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.bench.errors import BenchError
from loadtest.bench.journal import Journal
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


def test_what_was_measured_before_is_not_played_again(tmp_path: Path) -> None:
    """A level that was cut short is played again by everybody, on the same stretch of the workload."""
    comparison = Comparison("pair", ("a", "b"), (Level(1, 2), Level(4, 8)), rounds=2, product=True)
    path = tmp_path / "turns.jsonl"

    async def product() -> float:
        return 1e9

    def play(stop_after: int | None) -> tuple[list[tuple[str, range, int]], Rounds, float]:
        heard: list[tuple[str, range, int]] = []
        turns: list[float] = []

        def advance(steps: float) -> None:
            turns.append(steps)
            if len(turns) == stop_after:
                raise BenchError("it broke")

        subjects = {name: Counting(name, heard) for name in "ab"}
        rounds = Rounds(subjects, product, first=10, pause=0.0, journal=Journal.open(path, "this run"))
        with contextlib.suppress(BenchError):
            asyncio.run(rounds.play(comparison, advance))
        return heard, rounds, sum(turns)

    first, rounds, _ = play(stop_after=5)  # in round 1, of the level that comes first, only b's turn was over
    assert len(first) == 5
    assert rounds.unfinished(comparison)
    with path.open("a") as file:
        file.write('{"side": {"comparis')  # cut off in the middle of a line
    second, rounds, turns = play(stop_after=None)
    assert second == [
        ("b", range(20, 28), 4),
        ("a", range(20, 28), 4),
        ("b", range(28, 30), 1),
        ("a", range(28, 30), 1),
    ]
    assert turns == comparison.turns
    assert len(rounds.sides) == 8
    assert [p.round for p in rounds.products] == [0, 1]
    third, rounds, _ = play(stop_after=None)
    assert third == []
    assert not rounds.unfinished(comparison)
    assert len(rounds.sides) == 8
    assert Journal.open(path, "another run").sides == []


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
