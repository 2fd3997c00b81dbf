"""How many sampled paths a chance is worth: counting against what is served, where the exact answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import typer

from browsing.console import STDERR, progress
from browsing.forecast import Options
from loadtest.bench.document import Figure
from loadtest.bench.ending import OUT, JsonOption, OutOption, end, folder, study
from loadtest.bench.known import Estimate, Shop
from loadtest.bench.machine import Watch
from loadtest.bench.spread import Spread

TOLERANCES = (0.1, 0.05, 0.02)
ASKED = 4.0
"""Times fewer paths than counting needs, of what is served."""
RESAMPLES = 1_000
WORDS = {
    "forbidden": "paths without the outcome, independent",
    "stratified": "the same, stratified",
    "served": "as served: besides, guided by carts and by the ends of paths",
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to estimate, over shops and repetitions. `ratio`: counting's paths over its own, for the same standard
    error, from the mean squared errors; `shops`: of each. `bias`: mean error. `covered`: share of the 95 % intervals
    that hold the truth."""

    ratio: Spread
    shops: tuple[Spread, ...]
    bias: float
    covered: Spread

    def document(self) -> dict[str, float]:
        by_shop = [own.median for own in self.shops]
        return {
            "ratio": self.ratio.median,
            "least": min(by_shop),
            "most": max(by_shop),
            "bias": self.bias,
            "covered": self.covered.median,
        }


@dataclass(frozen=True, slots=True)
class Stopped:
    """Sampling with a tolerance. `paths`: mean number for a purchase; `within`: share of the estimates that are within
    the tolerance of the truth; `covered`: as above."""

    tolerance: float
    paths: float
    within: float
    covered: float


@dataclass(frozen=True, slots=True)
class Found:
    """`ways`: by name. `base_rate`: P(purchase), the mean over the shops."""

    base_rate: float
    ways: dict[str, Way]
    stopped: tuple[Stopped, ...]

    def document(self) -> dict[str, Any]:
        served = self.ways["served"].ratio.median
        return {
            "base_rate": self.base_rate,
            "ways": {name: way.document() for name, way in self.ways.items()},
            "paths_counting_over_served": served,
            "paths_counting_over_served_with_free_paths": served / 2,
            "tolerances": [asdict(row) for row in self.stopped],
        }

    def figures(self) -> list[Figure]:
        found = []
        for name, way in self.ways.items():
            rows = [(name, WORDS[name], way.ratio)]
            if name == "served":
                rows += [(f"{name}/shop-{n}", f"of these, shop {n}", own) for n, own in enumerate(way.shops, 1)]
            found += [
                Figure(
                    key=key,
                    figure=f"{words}: times fewer paths than counting",
                    unit="ratio",
                    better="higher",
                    value=value,
                    limit=ASKED if name == "served" else None,
                )
                for key, words, value in rows
            ]
            found.append(
                Figure(
                    key=f"{name}/covered",
                    figure=f"{WORDS[name]}: share of the 95 % intervals that hold the truth",
                    unit="share",
                    better="higher",
                    value=way.covered,
                    limit=None,
                )
            )
        return found


def _covers(found: Estimate, truth: float) -> bool:
    return found[1][0] <= truth <= found[1][1]


def _way(shops: Sequence[Shop], samples: int, estimates: Iterable[Sequence[Estimate]]) -> Way:
    draw = np.random.default_rng(0)
    ratios, errors, covered = [], [], []
    for own, found in zip(shops, estimates, strict=True):
        off = np.array([probability - own.truth for probability, _ in found])
        # First of all repetitions, then of as many drawn from them with replacement.
        picks = np.vstack([np.arange(len(off)), draw.integers(len(off), size=(RESAMPLES, len(off)))])
        ratios.append(own.truth * (1 - own.truth) / samples / (off**2)[picks].mean(axis=1))
        errors.append(float(off.mean()))
        covered += [_covers(one, own.truth) for one in found]
    # Of the shops' summed squared errors: shops alike in their base rate weigh alike in counting's.
    pooled = len(ratios) / np.sum([1 / own for own in ratios], axis=0)
    spreads = [Spread.of_resamples(float(own[0]), own[1:].tolist(), picks.shape[1]) for own in (pooled, *ratios)]
    return Way(
        ratio=spreads[0],
        shops=tuple(spreads[1:]),
        bias=float(np.mean(errors)),
        covered=Spread.of_share(sum(covered), len(covered)),
    )


def measure(
    shops: int, repeats: int, samples: int, rate: float, seed: int, advance: Callable[[float], None] = lambda _: None
) -> Found:
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
    return Found(
        base_rate=float(np.mean([own.truth for own in made])),
        ways={name: _way(made, samples, estimates) for name, estimates in found.items()},
        stopped=tuple(_stopped(tolerance, rows) for tolerance, rows in stopped.items()),
    )


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
    out: OutOption = OUT,
    as_json: JsonOption = False,
) -> None:
    """Paths for the same standard error of P(purchase): counting against what is served, around the exact answer.

    Ways: forbidden (paths without the outcome, independent), stratified (the same from stratified random numbers),
    served (besides, guided by carts and by the ends of paths). Then what `options.tolerance` draws, and whether it
    keeps its word. A minute on one core.
    """
    folder(out)
    watch = Watch.start()
    with progress("estimating", shops, "shops") as advance:
        found = measure(shops, repeats, samples, rate, seed, advance)
    document = found.document()
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
    measured = study(
        "paths",
        watch,
        found.figures(),
        conditions={"shops": shops, "samples": samples, "rate": rate, "seed": seed},
        settings={"repeats": repeats},
        details=document,
        packages=("numpy", "scipy"),
    )
    end(measured, out, "paths", as_json)
