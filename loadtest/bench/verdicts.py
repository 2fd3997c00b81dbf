"""From rounds to the lines of the table: each compares two subjects round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.bench.document import Figure, Product, Side
from loadtest.bench.rounds import of
from loadtest.bench.spread import Spread

AROUND_CPU = "around/cpu"
FLAT = 1.10
"""Within 10 %."""


def rate(side: Side) -> float:
    return side.per_second


def p50(side: Side) -> float:
    return side.latency_ms.p50 or 0.0


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Over all rounds of a run. `crowd`: how many were under way at once where it was not one."""

    sides: Sequence[Side]
    products: Sequence[Product]
    crowd: int

    def against(self, comparison: str, ours: str, peer: str, *, faster: float, throughput: float) -> list[Figure]:
        """Our service and a peer: one request at a time, and many."""
        one = self._ratios(comparison, (peer, ours), 1, p50)
        many = self._ratios(comparison, (ours, peer), self.crowd, rate)
        return [
            Figure(
                key=f"one/{comparison}",
                figure=f"one request, embedding cached, against {peer}: times faster",
                unit="ratio",
                better="higher",
                value=one,
                limit=faster,
            ),
            Figure(
                key=f"crowd/{comparison}",
                figure=f"{self.crowd} concurrent, against {peer}: times the throughput",
                unit="ratio",
                better="higher",
                value=many,
                limit=throughput,
            ),
        ]

    def around(self, comparison: str, ours: str, engine: str, forecast: str) -> list[Figure]:
        """The service and its engine alone."""
        return [
            Figure(
                key="arithmetic",
                figure=f"{self.crowd} concurrent: achieved arithmetic over the machine's own large matrix product",
                unit="ratio",
                better="higher",
                value=self._arithmetic(comparison, ours, engine),
                limit=0.30,
            ),
            Figure(
                key="arithmetic/engine",
                figure="the same, of the engine alone",
                unit="ratio",
                better="higher",
                value=self._arithmetic(comparison, engine, engine),
                limit=None,
            ),
            Figure(
                key=AROUND_CPU,
                figure="service around its engine: CPU ms per request",
                unit="ms",
                better="lower",
                value=self._differences(comparison, (ours, engine)),
                limit=1.0,
            ),
            Figure(
                key="around/estimate",
                figure="of these, to decode and estimate",
                unit="ms",
                better="lower",
                value=self._differences(comparison, (forecast, engine)),
                limit=None,
            ),
            Figure(
                key="around/throughput",
                figure="service over its engine alone: throughput",
                unit="ratio",
                better="higher",
                value=self._ratios(comparison, (ours, engine), self.crowd, rate),
                limit=0.95,
            ),
        ]

    def clusters(self, comparison: str, counts: Sequence[int]) -> list[Figure]:
        """K against the smallest K, same size. The limits are the largest one's."""
        least, most = min(counts), max(counts)
        figures = []
        for count in counts:
            if count == least:
                continue
            pair = f"K = {count} against K = {least}, same size"
            figures.append(
                Figure(
                    key=f"clusters/{count}/throughput",
                    figure=f"{pair}: throughput, {self.crowd} concurrent",
                    unit="ratio",
                    better="higher",
                    value=self._ratios(comparison, (f"K={count}", f"K={least}"), self.crowd, rate),
                    limit=0.95 if count == most else None,
                )
            )
            figures += [
                Figure(
                    key=f"clusters/{count}/p50/{name}",
                    figure=f"{pair}: p50, {words}",
                    unit="ratio",
                    better="lower",
                    value=self._ratios(comparison, (f"K={count}", f"K={least}"), concurrency, p50),
                    limit=1.15 if count == most else None,
                )
                for name, words, concurrency in (
                    ("one", "one request at a time", 1),
                    ("crowd", f"{self.crowd} concurrent", self.crowd),
                )
            ]
        return figures

    def larger(self, comparison: str, ours: str, single: str, clusters: int) -> Figure:
        """K small predictors against one of at least K times the parameters."""
        return Figure(
            key="larger",
            figure=f"K = {clusters} against a single predictor of {clusters} times the parameters: throughput",
            unit="ratio",
            better="higher",
            value=self._ratios(comparison, (ours, single), self.crowd, rate),
            limit=float(clusters),
        )

    def flat(self, comparison: str, ours: str, most: int) -> list[Figure]:
        """Time per prediction and memory from saturation on, over the best. The lowest concurrency within 10 % of the
        best saturates."""
        spans = {
            "time": ("time per prediction", lambda side: 1 / side.per_second),
            "memory": ("memory", lambda side: float(side.memory)),
        }
        return [
            Figure(
                key=f"flat/{key}",
                figure=f"{words}, up to {most} concurrent after saturation: largest over {reference}",
                unit="ratio",
                better="lower",
                value=self._flat(comparison, ours, value, against_least=key == "time"),
                limit=FLAT,
            )
            for (key, (words, value)), reference in zip(spans.items(), ("smallest", "that at saturation"), strict=True)
        ]

    def _flat(
        self, comparison: str, subject: str, value: Callable[[Side], float], *, against_least: bool
    ) -> Spread | None:
        own = [s for s in self.sides if (s.comparison, s.subject) == (comparison, subject)]
        found = []
        for number in sorted({s.round for s in own}):
            curve = sorted((s for s in own if s.round == number), key=lambda s: s.concurrency)
            best = max(s.per_second for s in curve)
            start = next(i for i, s in enumerate(curve) if s.per_second >= best / FLAT)
            saturated = [value(s) for s in curve[start:]]
            found.append(max(saturated) / (min(saturated) if against_least else saturated[0]))
        return Spread.of_ratios(found) if found else None

    def _pairs(self, comparison: str, pair: tuple[str, str], concurrency: int) -> list[tuple[Side, Side]]:
        first, second = (of(self.sides, comparison, subject, concurrency) for subject in pair)
        return list(zip(first, second, strict=True))

    def _ratios(
        self, comparison: str, pair: tuple[str, str], concurrency: int, value: Callable[[Side], float]
    ) -> Spread | None:
        pairs = self._pairs(comparison, pair, concurrency)
        return Spread.of_ratios([value(a) / value(b) for a, b in pairs]) if pairs else None

    def _differences(self, comparison: str, pair: tuple[str, str]) -> Spread | None:
        pairs = self._pairs(comparison, pair, self.crowd)
        return Spread.of_amounts([a.cpu - b.cpu for a, b in pairs]) if pairs else None

    def _arithmetic(self, comparison: str, subject: str, engine: str) -> Spread | None:
        """Operations are counted on the engine's own answers to the same questions."""
        reached = {p.round: p.per_second for p in self.products if p.comparison == comparison}
        shares = [
            counted.operations * played.per_second / reached[played.round]
            for played, counted in self._pairs(comparison, (subject, engine), self.crowd)
            if counted.operations is not None and played.round in reached
        ]
        return Spread.of_ratios(shares) if shares else None
