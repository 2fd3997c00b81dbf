"""How many sampled paths a chance is worth: counting against what is served, where the exact answer is known.

A shop small enough for exact answers: every page's next page is drawn from a row of a table, a purchase seldom comes
but after a cart. The chance of a purchase within T pages is then a product of matrices, and every way to estimate it
can be measured by its squared error around the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from browsing.bundle import Reference
from browsing.console import STDERR, emit, progress
from browsing.engine import GenerateRequest
from browsing.engines.table import TableEngine
from browsing.estimate import outcome_estimate
from browsing.forecast import Forecast, Forecaster, Options, Question
from browsing.vocabulary import BOS, EOS, SPECIALS, Vocabulary

Floats = NDArray[np.float64]

CART, PURCHASE = len(SPECIALS), len(SPECIALS) + 1
PAGES = 30
STEPS = 20
PATIENCE = 600.0
TOLERANCES = (0.1, 0.05, 0.02)
MOST = 128
"""Paths that a tolerance may take."""


def shop(seed: int, rate: float) -> Floats:
    """Rows of a first-order model over `PAGES` pages, a cart and a purchase page, float64 [V, V], in which a visit
    holds a purchase with probability `rate`. Pages differ in what they lead to and in how often that is the cart."""
    generator = np.random.default_rng(seed)
    V = len(SPECIALS) + 2 + PAGES
    onward = generator.dirichlet(np.full(PAGES, 0.3), V)
    carts = generator.gamma(0.7, 1.0, V)
    bought = generator.uniform(0.2, 0.6)

    def table(level: float) -> Floats:
        cart = np.minimum(level * carts, 0.9)
        rows = np.zeros((V, V))
        rows[:, PURCHASE + 1 :] = onward * (0.75 * (1 - cart))[:, None]
        rows[:, CART], rows[:, EOS], rows[:, PURCHASE] = 0.75 * cart, 0.25, 0.002
        rows[CART, PURCHASE], rows[PURCHASE, EOS] = bought, 2.0
        normalised: Floats = rows / rows.sum(axis=1, keepdims=True)
        return normalised

    low, high = 0.0, 1.0
    for _ in range(40):
        level = (low + high) / 2
        low, high = (low, level) if reached(table(level), (PURCHASE,), STEPS) > rate else (level, high)
    return table(high)


def reached(table: Floats, ids: Sequence[int], steps: int) -> float:
    """The exact chance that a session of at most `steps` pages visits one of `ids`."""
    at = np.zeros(len(table))
    at[BOS] = 1.0
    chance = 0.0
    for _ in range(steps):
        at = at @ table
        chance += float(at[list(ids)].sum())
        at[[EOS, *ids]] = 0.0
    return chance


@dataclass(frozen=True, slots=True)
class Way:
    """One way to estimate, over shops and repetitions. `ratio`: counting's paths over its own, for the same standard
    error, from the mean squared errors; `least`, `most`: among the shops. `bias`: mean error. `covered`: share of the
    95 % intervals that hold the truth."""

    ratio: float
    least: float
    most: float
    bias: float
    covered: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """Sampling with a tolerance. `paths`: mean number for a purchase; `within`: share of the estimates that are within
    the tolerance of the truth; `covered`: as above."""

    tolerance: float
    paths: float
    within: float
    covered: float


Estimate = tuple[float, tuple[float, float]]


class Shop:
    """One table, asked as the service asks."""

    def __init__(self, seed: int, rate: float) -> None:
        self.table = shop(seed, rate)
        self.truth = reached(self.table, (PURCHASE,), STEPS)
        self._engine = TableEngine([self.table])
        words = Vocabulary(["/cart", "/purchase", *(f"/page-{i}" for i in range(PAGES))])
        reference = Reference(cluster_shares=(1.0,), pages=({},), outcome_rates={})
        self._forecaster = Forecaster(words, {"cart": (CART,), "purchase": (PURCHASE,)}, reference, STEPS)
        self._question = Question(0, (BOS,), ())

    def _forecast(self, options: Options) -> Forecast:
        draws = asyncio.run(self._forecaster.draw(self._engine, self._question, options, PATIENCE))
        self._engine.requests.clear()
        return self._forecaster.summarise(self._question, draws, options)

    def served(self, samples: int, seed: int) -> Estimate:
        found = self._forecast(Options(samples=samples, seed=seed)).outcomes["purchase"]
        return found.probability, found.interval

    def until(self, tolerance: float, seed: int) -> tuple[Estimate, int]:
        found = self._forecast(Options(samples=MOST, seed=seed, tolerance=tolerance))
        outcome = found.outcomes["purchase"]
        return (outcome.probability, outcome.interval), found.drawn.outcomes["purchase"]

    def forbidden(self, samples: int, seed: int, *, stratified: bool) -> Estimate:
        """The mean over forbidden paths alone. Requests of one path each are independent of one another."""
        sizes = [samples] if stratified else [1] * samples
        seeds = np.random.default_rng((samples, seed)).integers(2**62, size=len(sizes))
        asked = [
            GenerateRequest(0, (BOS,), n, STEPS, (PURCHASE,), (PURCHASE,), seed=int(own), deadline=PATIENCE)
            for n, own in zip(sizes, seeds, strict=True)
        ]

        async def ask() -> Estimate:
            estimate = outcome_estimate([path for one in asked for path in await self._engine.generate(one)])
            return estimate.probability, estimate.interval

        found = asyncio.run(ask())
        self._engine.requests.clear()
        return found


def _covers(found: Estimate, truth: float) -> bool:
    return found[1][0] <= truth <= found[1][1]


def _way(shops: Sequence[Shop], samples: int, estimates: Iterable[Sequence[Estimate]]) -> Way:
    ratios, errors, covered = [], [], []
    for own, found in zip(shops, estimates, strict=True):
        off = np.array([probability - own.truth for probability, _ in found])
        ratios.append(own.truth * (1 - own.truth) / samples / float(np.mean(off**2)))
        errors.append(float(off.mean()))
        covered += [_covers(one, own.truth) for one in found]
    # Of the shops' summed squared errors: shops alike in their base rate weigh alike in counting's.
    pooled = len(ratios) / float(np.sum(1 / np.array(ratios)))
    return Way(pooled, min(ratios), max(ratios), float(np.mean(errors)), float(np.mean(covered)))


def measure(
    shops: int, repeats: int, samples: int, rate: float, seed: int, advance: Callable[[float], None] = lambda _: None
) -> dict[str, Any]:
    """`repeats` estimates per shop and way; `advance(1)` after each shop."""
    made = [Shop(seed + number, rate) for number in range(shops)]
    found: dict[str, list[list[Estimate]]] = {"forbidden": [], "stratified": [], "served": []}
    stopped: dict[float, list[tuple[Estimate, int, float]]] = {tolerance: [] for tolerance in TOLERANCES}
    for own in made:
        seeds = range(repeats)
        found["forbidden"].append([own.forbidden(samples, s, stratified=False) for s in seeds])
        found["stratified"].append([own.forbidden(samples, s, stratified=True) for s in seeds])
        found["served"].append([own.served(samples, s) for s in seeds])
        for tolerance in TOLERANCES:
            stopped[tolerance] += [(*own.until(tolerance, s), own.truth) for s in range(-(-repeats // 5))]
        advance(1)
    ways = {name: _way(made, samples, estimates) for name, estimates in found.items()}
    return {
        "shops": shops,
        "repeats": repeats,
        "samples": samples,
        "base_rate": float(np.mean([own.truth for own in made])),
        "ways": {name: asdict(way) for name, way in ways.items()},
        "paths_counting_over_served": ways["served"].ratio,
        "paths_counting_over_served_with_free_paths": ways["served"].ratio / 2,
        "tolerances": [asdict(_stopped(tolerance, rows)) for tolerance, rows in stopped.items()],
    }


def _stopped(tolerance: float, rows: Sequence[tuple[Estimate, int, float]]) -> Stopped:
    return Stopped(
        tolerance,
        paths=float(np.mean([paths for _, paths, _ in rows])),
        within=float(np.mean([abs(found[0] - truth) <= tolerance for found, _, truth in rows])),
        covered=float(np.mean([_covers(found, truth) for found, _, truth in rows])),
    )


def paths(
    shops: Annotated[int, typer.Option(min=1, help="simulated shops, each with its own exact answer")] = 6,
    repeats: Annotated[int, typer.Option(min=10, help="estimates per shop")] = 200,
    samples: Annotated[int, typer.Option(min=2, max=256, help="paths per estimate")] = Options().samples,
    rate: Annotated[float, typer.Option(min=0.01, max=0.2, help="P(purchase) of every shop")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="equal seeds, equal figures")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON on stdout")] = False,
) -> None:
    """Paths for the same standard error of P(purchase): counting against what is served, around the exact answer.

    Ways: forbidden (paths without the outcome, independent), stratified (the same from stratified random numbers),
    served (besides, guided by carts and by the ends of paths). Then what `options.tolerance` draws, and whether it
    keeps its word. A minute on one core.
    """
    with progress("estimating", shops, "shops") as advance:
        document = measure(shops, repeats, samples, rate, seed, advance)
    for name, way in document["ways"].items():
        STDERR.print(
            f"{name:<11} {way['ratio']:5.1f} times fewer paths than counting ({way['least']:.1f} to {way['most']:.1f} "
            f"by shop), bias {way['bias']:+.4f}, intervals hold the truth in {way['covered']:.1%}"
        )
    for row in document["tolerances"]:
        STDERR.print(
            f"tolerance {row['tolerance']:g}: {row['paths']:.0f} paths, {row['within']:.1%} within it, intervals hold "
            f"the truth in {row['covered']:.1%}"
        )
    emit(document, as_json)
