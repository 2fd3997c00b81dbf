"""How long after an engine's death the model answers again: the embedded engine, and a vLLM of the service's own."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from browsing.console import progress
from loadtest import figures
from loadtest.client import connect
from loadtest.faults import bad_after, recovered_after
from loadtest.soak import report
from loadtest.soak.crowd import Crowd, questions
from loadtest.soak.reference import Comparing
from loadtest.soak.serving import Served, StartError, start
from loadtest.stage import machine
from loadtest.visitors import read_bundle
from loadtest.workload import Question

Engine = Literal["embedded", "vllm"]
EMBEDDED_LIMIT = 2.0
BEYOND_START = 5.0
"""A killed vLLM may take its start, and so many seconds."""
VISITORS = 40
LEAD = 2.0
PIECE = 10.0
"""Seconds of load at a time, until the model is back."""
MOST_PIECES = 60
PROC = Path("/proc")
SETTINGS = {"HETLM_ENGINE_DEADLINE_MS": "60000"}
"""So long that a slow machine is not taken for an engine that is still dead."""


class NoEngineError(RuntimeError):
    """The process of an engine was not found."""


@dataclass(frozen=True, slots=True)
class Death:
    """`recovered`: seconds from it to the first request from which on the model answered everybody; None: never.
    `noticed`: requests that the model did not answer."""

    recovered: float | None
    noticed: int
    limit: float

    @property
    def in_time(self) -> bool:
        return self.recovered is not None and self.recovered <= self.limit and self.noticed > 0


async def run(
    bundle: Path, folder: Path, *, engines: Sequence[Engine] = ("embedded", "vllm"), deaths: int = 5, rate: float = 5.0
) -> report.Section:
    """`deaths`: of the embedded engine; of vLLM one per cluster that has visitors. Raises `StartError`,
    `NoEngineError`."""
    load_before, began = report.load(), time.monotonic()
    found: list[report.Figure] = []
    complaints: list[str] = []
    details: dict[str, JsonValue] = {}
    fates = []
    for engine in engines:
        crowd, died = await _deaths(engine, bundle, folder, deaths, rate)
        fates += crowd.fates
        reasons = figures.answers(crowd.fates).reasons
        complaints += [f"{engine}: {count} times: {reason}" for reason, count in reasons.items()]
        complaints += [f"{engine}: a death that nobody noticed" for death in died if not death.noticed]
        found.append(_figure(engine, died))
        details[engine] = [
            {"recovered": death.recovered, "noticed": death.noticed, "limit": death.limit} for death in died
        ]
    answers = figures.answers(fates)
    return report.Section(
        section="recovery",
        command=f"python -m loadtest.soak recovery {' '.join(f'--engine {engine}' for engine in engines)}",
        figures=tuple(found),
        complaints=tuple(complaints),
        answers=answers,
        machine=machine(load_before),
        seconds=round(time.monotonic() - began, 1),
        details=details,
    )


def _figure(engine: Engine, died: Sequence[Death]) -> report.Figure:
    times = [death.recovered for death in died if death.recovered is not None]
    told = f"{statistics.median(times):.2f} s, at most {max(times):.2f} s" if times else "never"
    never = f", {len(died) - len(times)} never" if times and len(times) < len(died) else ""
    gate = (
        f"{EMBEDDED_LIMIT:g} s" if engine == "embedded" else f"its start ({died[0].limit - BEYOND_START:.1f} s) + 5 s"
    )
    name = "the embedded engine" if engine == "embedded" else "one vLLM engine (SIGKILL)"
    return report.Figure(
        figure=f"recovery after the death of {name}, median of {len(died)}",
        measured=told + never,
        gate=gate,
        passed=bool(died) and all(death.in_time for death in died),
    )


async def _deaths(engine: Engine, bundle: Path, folder: Path, deaths: int, rate: float) -> tuple[Crowd, list[Death]]:
    vllm = engine == "vllm"
    served = await start(
        bundle,
        folder / f"{engine}.log",
        ["--engine", "vllm" if vllm else "local", "--log-level", "info"],
        module="loadtest.soak.victim",
        variables=SETTINGS,
        patience=1_200.0,
    )
    try:
        known = read_bundle(bundle)
        checker = Comparing({known.version}, frozenset(known.pages), exact=not vllm)
        async with connect(served.url) as client:
            crowd = Crowd(client, questions(bundle, VISITORS, samples=1), checker)
            if not await crowd.well():
                raise StartError("the model does not answer everybody, before anything was done")
            alive = groups(served.pid) if vllm else {}
            clusters = [verdict.cluster for verdict in await crowd.everybody()]
            victims = sorted({k for k in clusters if k is not None} & alive.keys()) if vllm else [0] * deaths
            limit = served.started_in / max(1, len(alive)) + BEYOND_START if vllm else EMBEDDED_LIMIT
            died = []
            with progress(f"Deaths of {engine}", len(victims), "deaths") as advance:
                for cluster in victims:
                    crowd.questions, clusters = first_of(crowd.questions, clusters, cluster)
                    strike = _killing(served, cluster) if vllm else lambda: served.signal(signal.SIGUSR1)
                    died.append(await _die(crowd, strike, rate, limit))
                    advance(1)
            return crowd, died
    finally:
        await served.end()


def first_of(
    questions: Sequence[Question], clusters: Sequence[int | None], victim: int
) -> tuple[tuple[Question, ...], list[int | None]]:
    """The same questions, and the clusters of their visitors, with the victim's own in front: those come most often.
    Otherwise its death might be noticed late, or by nobody."""
    order = sorted(range(len(questions)), key=lambda place: clusters[place] != victim)
    return tuple(questions[place] for place in order), [clusters[place] for place in order]


async def _die(crowd: Crowd, strike: Callable[[], None], rate: float, limit: float) -> Death:
    """Load goes on from before the death until the model has answered everybody for a piece of it."""
    loop = asyncio.get_running_loop()
    fates, origin, at = [], None, 0.0

    for _ in range(MOST_PIECES):
        begun = 0.0

        async def companion(begin: float) -> None:
            nonlocal begun, origin, at
            begun = begin
            if origin is None:
                origin = begin
                await asyncio.sleep(begin + LEAD - loop.time())
                at = loop.time() - begin
                strike()

        piece = await crowd.load(rate, PIECE, [companion])
        assert origin is not None, "the companion has begun"
        later = begun - origin
        fates += [fate.later(later) for fate in piece]
        if later and not bad_after([fate.later(later) for fate in piece], 0.0):
            break
    return Death(recovered_after(fates, at), len(bad_after(fates, at)), limit)


def groups(pid: int) -> dict[int, int]:
    """Per cluster the process below the guard of its vLLM: the service's own children run
    `... guard.py ... <predictors>/cluster-<k> ...`."""
    found = {}
    for child in _children(pid):
        words = (PROC / str(child) / "cmdline").read_bytes().split(b"\0")
        named = [word.rpartition(b"cluster-")[2] for word in words if b"/cluster-" in word]
        below = _children(child)
        if named and named[0].isdigit() and below:
            found[int(named[0])] = below[0]
    return found


def _children(pid: int) -> list[int]:
    tasks = PROC / str(pid) / "task"
    return [int(word) for task in os.listdir(tasks) for word in (tasks / task / "children").read_text().split()]


def _killing(served: Served, cluster: int) -> Callable[[], None]:
    def kill() -> None:
        alive = groups(served.pid)
        if cluster not in alive:
            raise NoEngineError(f"no process of cluster {cluster}'s vLLM was found")
        os.kill(alive[cluster], signal.SIGKILL)

    return kill
