"""One scenario, from the first connection to its result."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from loadtest import figures, pairs
from loadtest.arrivals import ArrivalError
from loadtest.beside import FileWork
from loadtest.check import Checker
from loadtest.client import ServiceError, connect, served_version
from loadtest.faults import FaultError, bad_after, recovered_after
from loadtest.generator import Fate
from loadtest.judge import judged
from loadtest.planning import PROBED, Asked, People, Source, open_source, people_of, plan_of, replay_of, times_of
from loadtest.process import Sample, sample, watch
from loadtest.result import Batch, Fault, Pairs, Result
from loadtest.scenarios import Scenario
from loadtest.stage import Companion, Driven, Stage, machine
from loadtest.trends import trends
from loadtest.workload import Plan

SOAK_FILE_ROWS = 1_000
HALF, THREE_QUARTERS = 0.5, 0.75


@dataclass(slots=True)
class _Struck:
    """When the hooks were done, in seconds from the run's start."""

    at: float | None = None
    restored_at: float | None = None


@dataclass(slots=True)
class _Run:
    """What a run comes to, before it is a document."""

    rate: float
    drives: Sequence[Driven]
    compression: float | None = None
    pairs: Pairs | None = None
    batch: Batch | None = None
    struck: _Struck = field(default_factory=_Struck)
    samples: list[Sample] = field(default_factory=list)


async def run(scenario: Scenario, asked: Asked, transport: httpx.AsyncBaseTransport | None = None) -> Result:
    """Raises `ServiceError`, `VisitorError`, `ArrivalError`, `FaultError`, `PairError`, `ProcessError`.

    `transport`: for tests.
    """
    _check(scenario, asked)
    load_before = os.getloadavg()[0]
    source = open_source(asked)
    seconds = asked.seconds if asked.seconds is not None else scenario.seconds
    async with connect(asked.url, asked.api_key, transport) as client:
        version = await served_version(client)
        if source.served is not None and source.served.version not in (version, *asked.versions):
            raise ServiceError(f"{asked.url} serves bundle {version[:12]}; --bundle has {source.served.version[:12]}")
        stage = Stage(client, Checker({version, *asked.versions}, source.known), asked, version)
        if scenario.batch == "paired":
            done = await _paired(stage, scenario, asked, source, seconds)
        else:
            done = await _single(stage, scenario, asked, source, seconds)
    return _result(scenario, asked, source, version, seconds, done, load_before)


def _check(scenario: Scenario, asked: Asked) -> None:
    """What is wrong is known before anything is sent."""
    if scenario.hook_needed and not asked.hook:
        raise FaultError(f"{scenario.name} needs --kill-pid or --kill-command: how to kill the {scenario.fault}")
    if asked.hook and scenario.fault is None:
        raise FaultError(f"{scenario.name} kills nothing: leave --kill-pid and --kill-command out, or take mixed")
    asked.hook.check()
    if asked.arrivals == "replay" and not (
        scenario.even and scenario.crowd == "returning" and scenario.batch == "none"
    ):
        raise ArrivalError(
            f"{scenario.name} has arrivals or visitors of its own: a replay goes with steady, and faults"
        )
    if asked.pid is not None:
        sample(asked.pid)


async def _paired(stage: Stage, scenario: Scenario, asked: Asked, source: Source, seconds: float) -> _Run:
    people = people_of(scenario, asked, source, 0)
    ran = await pairs.run_pairs(stage, scenario, asked, people, seconds)
    return _Run(ran.rate, ran.drives, pairs=ran.pairs)


async def _single(stage: Stage, scenario: Scenario, asked: Asked, source: Source, seconds: float) -> _Run:
    rate = asked.rate if asked.rate is not None else scenario.rate
    seed = (asked.seed,)
    people: People | None = None
    compression = None
    if asked.arrivals == "replay":
        plan, compression = replay_of(scenario.phases, asked, source, rate, seconds, seed)
    else:
        times = times_of(scenario, asked, rate, seconds, seed)
        people = people_of(scenario, asked, source, len(times))
        if scenario.crowd in ("hot", "mixed"):
            people = await _probed(stage, asked, people)
        plan = plan_of(scenario, asked, people, times, seconds, seed)
    if not len(plan.times):
        raise ArrivalError(f"{rate:g} requests per second over {seconds:g} seconds are none: raise --rate or --seconds")
    done = _Run(rate, (), compression)
    work = _file_work(stage, people) if scenario.batch == "beside" and people is not None else None
    if work is not None:
        await work.start()
    try:
        done.drives = (await stage.drive(plan, scenario.name, _companions(asked, plan, done)),)
    finally:
        if work is not None:
            done.batch = await work.stop()
    return done


def _file_work(stage: Stage, people: People) -> FileWork:
    questions = [people.questions[place] for place in people.population]
    return FileWork(stage.client, questions, frozenset(stage.checker.versions), SOAK_FILE_ROWS)


async def _probed(stage: Stage, asked: Asked, people: People) -> People:
    probed = [people.questions[place] for place in people.population[:PROBED]]
    replies = await stage.each(probed, "Finding a cluster's visitors")
    clusters = [reply.verdict.cluster if reply.verdict.sessions else None for reply in replies]
    return people.with_hot(clusters, asked.cluster)


def _companions(asked: Asked, plan: Plan, done: _Run) -> list[Companion]:
    companions: list[Companion] = []
    if asked.pid is not None:
        pid = asked.pid
        companions.append(lambda begin: watch(pid, done.samples, begin))
    if asked.hook:
        companions.append(lambda begin: _strike(asked, plan.seconds, done.struck, begin))
    return companions


async def _strike(asked: Asked, seconds: float, struck: _Struck, begin: float) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(begin + HALF * seconds - loop.time())
    struck.at = loop.time() - begin
    await asked.hook.strike()
    if asked.hook.restore is not None:
        await asyncio.sleep(max(0.0, begin + THREE_QUARTERS * seconds - loop.time()))
        await asked.hook.undo()
        struck.restored_at = loop.time() - begin


def _result(
    scenario: Scenario, asked: Asked, source: Source, version: str, seconds: float, done: _Run, load_before: float
) -> Result:
    """Of several drives, the answers are everybody's and the figures those of the first, which has nothing beside it;
    the pairs have the others'."""
    first = done.drives[0]
    fates = [fate for drive in done.drives for fate in drive.fates]
    counted = [fate for drive in done.drives for fate in drive.fates if _within(fate, drive)]
    lag = figures.lag(counted, sum(d.cpu for d in done.drives), sum(d.wall for d in done.drives))
    result = Result(
        scenario=scenario.name,
        url=asked.url,
        bundle_version=version,
        source=source.name,
        arrivals=asked.arrivals,
        compression=done.compression,
        seed=asked.seed,
        rate=done.rate,
        seconds=seconds,
        plan_sha256=first.plan.sha256,
        machine=machine(load_before),
        answers=figures.answers(fates),
        counted=figures.group("counted", first.fates, first.counted),
        phases=figures.phases(first.fates, first.plan.spans),
        slices=figures.slices(first.fates, first.counted[0].start, first.counted[-1].end),
        lag=lag,
        fault=_fault(asked, done),
        batch=done.batch,
        pairs=done.pairs,
        trends=trends(done.samples) if scenario.watched else None,
        flags=(),
        failures=(),
    )
    return judged(result, watched=scenario.watched)


def _within(fate: Fate, drive: Driven) -> bool:
    return any(span.start <= fate.intended < span.end for span in drive.counted)


def _fault(asked: Asked, done: _Run) -> Fault | None:
    at = done.struck.at
    if at is None:
        return None
    fates = done.drives[0].fates
    return Fault(
        what=asked.hook.words,
        at=round(at, 3),
        restored_at=done.struck.restored_at,
        bad=len(bad_after(fates, at)),
        recovered_after=recovered_after(fates, at),
    )
