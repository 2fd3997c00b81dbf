"""Comparisons in alternation: every round plays the same stretch of the workload on every subject, in turns whose order
is reversed from round to round, so that what changes on the machine meets all of them alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.bench.document import Product, Side
from loadtest.bench.journal import Journal
from loadtest.bench.subject import Played, Subject
from loadtest.figures import latency

PAUSE = 0.3
"""Seconds between two turns: threads that have nothing to do spin for a while before they sleep."""


@dataclass(frozen=True, slots=True)
class Level:
    """So many requests at a concurrency."""

    concurrency: int
    requests: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """`product`: whether the machine's own matrix product is measured in each round, too."""

    name: str
    subjects: tuple[str, ...]
    levels: tuple[Level, ...]
    rounds: int
    product: bool = False

    @property
    def turns(self) -> int:
        return self.rounds * len(self.levels) * len(self.subjects)


@dataclass
class Rounds:
    """Plays comparisons and keeps what came of them. `product`: measures operations per second. `first`: number of the
    first request; none comes twice. `journal`: what it holds already is not played again; of a level that was cut
    short, everybody's turn is, since only neighbours are compared."""

    subjects: Mapping[str, Subject]
    product: Callable[[], Awaitable[float]] | None = None
    first: int = 0
    pause: float = PAUSE
    journal: Journal = field(default_factory=Journal.nowhere)
    sides: list[Side] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)

    async def warm(self, name: str, requests: int, concurrency: int) -> None:
        """Every visitor once, so that embeddings are cached and nothing is compiled or allocated later."""
        await self.subjects[name].play(range(requests), concurrency)

    async def play(self, comparison: Comparison, advance: Callable[[float], None]) -> None:
        for number in range(comparison.rounds):
            turns = comparison.subjects if number % 2 == 0 else comparison.subjects[::-1]
            levels = comparison.levels if number % 2 == 0 else comparison.levels[::-1]
            for level in levels:
                stretch = range(self.first, self.first + level.requests)
                self.first += level.requests
                known = {name: self._known(comparison, name, number, level) for name in turns}
                if all(known.values()):
                    self.sides += [found for found in known.values() if found is not None]
                    advance(len(turns))
                    continue
                for name in turns:
                    await asyncio.sleep(self.pause)
                    played = await self.subjects[name].play(stretch, level.concurrency)
                    self.sides.append(side(comparison.name, name, number, level.concurrency, played))
                    self.journal.side(self.sides[-1])
                    advance(1)
            if comparison.product and self.product is not None:
                await self._product(comparison, number, self.product)

    def unfinished(self, comparison: Comparison) -> bool:
        """Whether a turn of it is still to be played."""
        return any(
            self._known(comparison, name, number, level) is None
            for number in range(comparison.rounds)
            for level in comparison.levels
            for name in comparison.subjects
        ) or (comparison.product and len(self._products(comparison)) < comparison.rounds)

    async def _product(self, comparison: Comparison, number: int, measure: Callable[[], Awaitable[float]]) -> None:
        known = [p for p in self._products(comparison) if p.round == number]
        if not known:
            await asyncio.sleep(self.pause)
            known = [Product(comparison=comparison.name, round=number, per_second=await measure())]
            self.journal.product(known[0])
        self.products.append(known[-1])

    def _products(self, comparison: Comparison) -> list[Product]:
        return [p for p in self.journal.products if p.comparison == comparison.name]

    def _known(self, comparison: Comparison, name: str, number: int, level: Level) -> Side | None:
        """The last one: a level that was cut short was played again."""
        found = of(self.journal.sides, comparison.name, name, level.concurrency)
        same = [s for s in found if s.round == number and s.requests == level.requests]
        return same[-1] if same else None


def side(comparison: str, subject: str, number: int, concurrency: int, played: Played) -> Side:
    requests = len(played.latencies)
    return Side(
        comparison=comparison,
        subject=subject,
        round=number,
        concurrency=concurrency,
        requests=requests,
        seconds=played.seconds,
        per_second=played.rate,
        latency_ms=latency(played.latencies),
        cpu_ms={name: 1000 * seconds / requests for name, seconds in played.cpu.items()},
        generator_cpu_ms=1000 * played.generator / requests,
        memory=played.memory,
        operations=played.operations,
    )


def of(sides: Sequence[Side], comparison: str, subject: str, concurrency: int) -> list[Side]:
    """One per round, in their order; none where it was not played."""
    found = [s for s in sides if (s.comparison, s.subject, s.concurrency) == (comparison, subject, concurrency)]
    return sorted(found, key=lambda s: s.round)
