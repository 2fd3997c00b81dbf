"""From what was asked for to plans: who the visitors are, when they come, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from loadtest.arrivals import ArrivalError, Kind, Phase, Times, in_phases, replay, spans
from loadtest.faults import Hook
from loadtest.scenarios import Scenario
from loadtest.visitors import Served, TestSplit, Visitor, VisitorError, read_bundle, read_dataset, walks
from loadtest.workload import Options, Plan, Question, order, patience, question

PROBED = 200
"""Visitors who are asked about to find those of one cluster."""
LEAVES_AFTER = 0.1
"""Mean seconds after which a caller goes away who does."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says. `visitors`: who come again and again. `rate`, `seconds`: None for the scenario's.
    `versions`: of bundles that may answer, besides the one that is served at the start."""

    url: str
    bundle: Path | None = None
    dataset: Path | None = None
    rate: float | None = None
    seconds: float | None = None
    seed: int = 0
    arrivals: Kind = "poisson"
    visitors: int = 1_000
    zipf: float = 1.0
    options: Options = field(default_factory=Options)
    timeout: float = 30.0
    bound: int = 1_000
    api_key: str | None = None
    pid: int | None = None
    hook: Hook = field(default_factory=Hook)
    cluster: int | None = None
    pairs: int = 5
    utilisation: float = 0.3
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where visitors come from: a test split, else walks over a bundle's pages."""

    served: Served | None
    split: TestSplit | None

    @property
    def name(self) -> str:
        return "dataset" if self.split is not None else "bundle"

    @property
    def known(self) -> frozenset[str] | None:
        """The vocabulary, where the bundle was named."""
        return frozenset(self.served.pages) if self.served is not None else None


def open_source(asked: Asked) -> Source:
    """Raises `VisitorError`."""
    if asked.bundle is None and asked.dataset is None:
        raise VisitorError("no visitors: name a dataset (--dataset), or a bundle (--bundle) over whose pages to walk")
    served = read_bundle(asked.bundle) if asked.bundle is not None else None
    return Source(served, read_dataset(asked.dataset) if asked.dataset is not None else None)


@dataclass(frozen=True, slots=True)
class People:
    """`questions` about everybody; `population`: who come again and again, the most frequent first; `fresh`: who come
    once; `hot`: those of the population who are of one cluster. All as places among the questions."""

    questions: tuple[Question, ...]
    population: tuple[int, ...]
    fresh: tuple[int, ...] = ()
    hot: tuple[int, ...] = ()

    def with_hot(self, clusters: Sequence[int | None], cluster: int | None) -> People:
        """`clusters`: of the first members of the population, as the service says; None: not told. `cluster`: the one
        wanted, by default the commonest. Raises `VisitorError` where nobody is of it."""
        told = [found for found in clusters if found is not None]
        if not told:
            raise VisitorError("the service did not say of any visitor which cluster is theirs")
        chosen = max(sorted(set(told)), key=told.count) if cluster is None else cluster
        hot = tuple(self.population[i] for i, found in enumerate(clusters) if found == chosen)
        if not hot:
            raise VisitorError(
                f"--cluster {chosen}: none of {len(clusters)} visitors is of it, but of {sorted(set(told))}: raise "
                "--visitors, or take another"
            )
        questions = list(self.questions)
        for place in hot:
            questions[place] = replace(questions[place], cluster=chosen)
        return replace(self, questions=tuple(questions), hot=hot)


def times_of(scenario: Scenario, asked: Asked, rate: float, seconds: float, seed: Sequence[int]) -> Times:
    """Arrivals of a run that is no replay."""
    if asked.arrivals == "replay":
        raise ArrivalError("a replay's arrivals are the log's")
    return in_phases(asked.arrivals, scenario.phases, rate, seconds, _generator(*seed, 1))


def people_of(scenario: Scenario, asked: Asked, source: Source, arrivals: int) -> People:
    """Enough of them for so many arrivals. Raises `VisitorError`."""
    fresh = arrivals if scenario.crowd in ("new", "mixed") else 0
    population = 0 if scenario.crowd == "new" else asked.visitors
    generator = _generator(asked.seed, 2)
    if source.split is not None:
        everybody = generator.permutation(len(source.split)).tolist()
        if scenario.crowd == "mixed":
            population = min(population, len(everybody) // 2)
        visitors = source.split.visitors(everybody[: population + fresh])
    elif source.served is not None:
        visitors = walks(source.served.pages, population + fresh, generator)
    population = min(population, len(visitors))
    places = tuple(range(len(visitors)))
    return People(_questions(visitors, asked.options), places[:population], places[population:])


def plan_of(
    scenario: Scenario, asked: Asked, people: People, times: Times, seconds: float, seed: Sequence[int]
) -> Plan:
    """Raises `VisitorError`."""
    generator = _generator(*seed, 3)
    chosen = order(
        scenario.crowd,
        len(times),
        generator,
        population=people.population,
        fresh=people.fresh,
        hot=people.hot,
        exponent=asked.zipf,
    )
    leaves = patience(len(times), scenario.leaving, LEAVES_AFTER, generator)
    return Plan(times, spans(scenario.phases, seconds), people.questions, chosen, leaves)


def replay_of(
    phases: Sequence[Phase], asked: Asked, source: Source, rate: float, seconds: float, seed: Sequence[int]
) -> tuple[Plan, float]:
    """The test split's visitors, when they really came; and how many of the log's seconds pass in one. Raises
    `ArrivalError`, `VisitorError`."""
    if source.split is None:
        raise ArrivalError("--arrivals replay needs --dataset, whose visitors' real times it replays")
    found = replay(source.split.came, rate, seconds, _generator(*seed, 1))
    rows, places = np.unique(found.rows, return_inverse=True)
    questions = _questions(source.split.visitors(rows.tolist()), asked.options)
    stay = np.full(len(found.times), np.inf)
    return Plan(found.times, spans(phases, seconds), questions, places.astype(np.int64), stay), found.compression


def _questions(visitors: Sequence[Visitor], options: Options) -> tuple[Question, ...]:
    return tuple(question(visitor, number, options) for number, visitor in enumerate(visitors))


def _generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
