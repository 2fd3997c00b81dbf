"""A shop small enough for exact answers: every page's next page is drawn from a row of a table, a purchase seldom comes
but after a cart. The chance of a purchase within T pages is then a product of matrices, and every way to estimate it
can be measured by its error around the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from browsing.bundle import Reference
from browsing.engine import GenerateRequest
from browsing.engines.table import TableEngine
from browsing.estimate import outcome_estimate
from browsing.forecast import Forecast, Forecaster, Options, Question
from browsing.vocabulary import BOS, EOS, SPECIALS, Vocabulary

Floats = NDArray[np.float64]
Estimate = tuple[float, tuple[float, float]]
"""A probability and its 95 % interval."""

CART, PURCHASE = len(SPECIALS), len(SPECIALS) + 1
PAGES = 30
STEPS = 20
PATIENCE = 600.0
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


class Shop:
    """One table, asked as the service asks."""

    def __init__(self, seed: int, rate: float) -> None:
        self.table = shop(seed, rate)
        self.truth = reached(self.table, (PURCHASE,), STEPS)
        self._engine = TableEngine([self.table])
        words = Vocabulary(["/cart", "/purchase", *(f"/page-{i}" for i in range(PAGES))])
        rates = {"cart": reached(self.table, (CART,), STEPS), "purchase": self.truth}  # as a bundle has a log's
        reference = Reference(cluster_shares=(1.0,), pages=({},), outcome_rates=rates)
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
