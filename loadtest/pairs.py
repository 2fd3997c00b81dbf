"""Paired runs: the same arrivals without and with work on files beside them, in alternation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.arrivals import Times
from loadtest.beside import FileWork
from loadtest.figures import group, ratio
from loadtest.planning import Asked, People, plan_of, times_of
from loadtest.result import Batch, Group, Pair, Pairs
from loadtest.scenarios import P95_LIMIT, Scenario
from loadtest.stage import Driven, Stage
from loadtest.workload import Plan

CALIBRATION_SECONDS = 10.0
CALLERS = 32
"""Enough that no engine of a small machine is ever idle."""
FILE_ROWS = 5_000
PAUSE_SECONDS = 2.0
"""Between two runs, so that none inherits the other's work."""
LEAST_RATE = 0.5

Half = Literal["without", "with"]


class PairError(RuntimeError):
    """Pairs that compare nothing; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Ran:
    """`drives`: all of them, in the order in which they ran."""

    pairs: Pairs
    rate: float
    drives: tuple[Driven, ...]


async def run_pairs(stage: Stage, scenario: Scenario, asked: Asked, people: People, seconds: float) -> Ran:
    """`asked.pairs` pairs at one rate: the one asked for, else the share `asked.utilisation` of the capacity. In every
    second pair the run with files comes first, so that whatever drifts favours neither. Raises `PairError`."""
    everybody = [people.questions[place] for place in people.population]
    capacity = None
    if asked.rate is None:
        await stage.each(everybody[: 4 * CALLERS], "Warming up")
        capacity = await stage.capacity(everybody, width=CALLERS, seconds=CALIBRATION_SECONDS)
        await asyncio.sleep(PAUSE_SECONDS)
    rate = asked.rate if asked.rate is not None else (capacity or 0.0) * asked.utilisation
    if rate < LEAST_RATE:
        raise PairError(
            f"{rate:.2f} requests per second is too little to have percentiles: give --rate, or a longer --timeout, or "
            "a faster engine"
        )
    drives: list[Driven] = []
    pairs: list[Pair] = []
    for number in range(asked.pairs):
        seed = (asked.seed, number)
        times: Times = times_of(scenario, asked, rate, seconds, seed)
        plan = plan_of(scenario, asked, people, times, seconds, seed)
        halves: Sequence[Half] = ("with", "without") if number % 2 else ("without", "with")
        groups: dict[Half, Group] = {}
        batch: Batch | None = None
        for half in halves:
            driven, done = await _half(stage, plan, people, half, f"Pair {number + 1} of {asked.pairs}, {half}")
            drives.append(driven)
            groups[half] = group(half, driven.fates, driven.counted)
            batch = done or batch
            await asyncio.sleep(PAUSE_SECONDS)
        assert batch is not None, "one half of every pair has files beside it"
        pairs.append(_pair(halves[0], groups["without"], groups["with"], batch))
    found = Pairs(
        capacity=capacity,
        utilisation=rate / capacity if capacity else None,
        pairs=tuple(pairs),
        p95_ratio=ratio([pair.p95_ratio for pair in pairs]),
        limit=P95_LIMIT,
    )
    return Ran(found, rate, tuple(drives))


async def _half(stage: Stage, plan: Plan, people: People, half: Half, label: str) -> tuple[Driven, Batch | None]:
    if half == "without":
        return await stage.drive(plan, label), None
    questions = [people.questions[place] for place in people.population]
    work = FileWork(stage.client, questions, frozenset(stage.checker.versions), FILE_ROWS)
    await work.start()
    try:
        driven = await stage.drive(plan, label)
    finally:
        done = await work.stop()
    return driven, done


def _pair(first: Half, without: Group, beside: Group, batch: Batch) -> Pair:
    alone, together = without.latency_ms.p95, beside.latency_ms.p95
    if not alone or together is None:
        raise PairError("a run has no correct answer, so that there is nothing to compare: try `steady` first")
    if not batch.rows:
        raise PairError("no row of the file was scored beside the online requests: the pair compares nothing")
    return Pair(first=first, without=without, beside=beside, batch=batch, p95_ratio=together / alone)


def undecided(pairs: Pairs) -> bool:
    """Whether the limit lies inside the ratio's interval, or there is none."""
    interval = pairs.p95_ratio.interval
    return interval is None or interval[0] <= pairs.limit < interval[1]


def failures(pairs: Pairs) -> list[str]:
    """What they promise and do not hold."""
    found = []
    if pairs.p95_ratio.mean > pairs.limit:
        found.append(f"p95 with a file beside it is {pairs.p95_ratio.mean:.3f} times p95 without, above {pairs.limit}")
    found += [f"the work on files ended early: {pair.batch.ended}" for pair in pairs.pairs if pair.batch.ended]
    if bad := sum(pair.batch.wrong for pair in pairs.pairs):
        found.append(f"{bad} rows of the files are lost, doubled, another visitor's or not scored")
    return found
