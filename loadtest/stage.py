"""Where runs take place: the connected service, what judges its answers, and one drive through a plan."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from browsing.console import progress
from loadtest.arrivals import Span
from loadtest.check import Checker
from loadtest.client import Asker, ask
from loadtest.generator import Ask, Fate, Reply, drive, saturate
from loadtest.planning import Asked
from loadtest.result import Machine
from loadtest.workload import Plan, Question

Companion = Callable[[float], Coroutine[object, object, None]]
"""What goes on beside a drive: given the loop's time of its start, runs until it is stopped."""
LEAD_SECONDS = 0.1
"""From the making of everything to the first arrival."""


@dataclass(frozen=True, slots=True)
class Driven:
    """`cpu`, `wall`: seconds of this process."""

    plan: Plan
    fates: list[Fate]
    cpu: float
    wall: float

    @property
    def counted(self) -> tuple[Span, ...]:
        return tuple(span for span in self.plan.spans if span.counted)


@dataclass(frozen=True, slots=True)
class Stage:
    client: httpx.AsyncClient
    checker: Checker
    asked: Asked
    version: str

    async def drive(self, plan: Plan, label: str, companions: Sequence[Companion] = ()) -> Driven:
        """Every arrival of the plan. The companions are stopped with the last answer; an error of theirs is raised
        then."""
        begin = asyncio.get_running_loop().time() + LEAD_SECONDS
        asker = Asker(self.client, plan, self.checker, timeout=self.asked.timeout)
        cpu, wall = time.process_time(), time.perf_counter()
        with progress(label, len(plan.times), "requests") as advance:
            async with beside([companion(begin) for companion in companions]):
                fates = await drive(plan.times, asker, bound=self.asked.bound, begin=begin, advance=advance)
        return Driven(plan, fates, time.process_time() - cpu, time.perf_counter() - wall)

    async def each(self, questions: Sequence[Question], label: str, *, width: int = 8) -> list[Reply]:
        """Ask about everybody once, some at a time; nothing is measured."""
        queue = iter(enumerate(questions))
        replies: dict[int, Reply] = {}
        asker = self._once(questions)

        async def worker() -> None:
            for place, _ in queue:
                replies[place] = await asker(place)
                advance(1)

        with progress(label, len(questions), "requests") as advance:
            await asyncio.gather(*(worker() for _ in range(width)))
        return [replies[place] for place in range(len(questions))]

    async def capacity(self, questions: Sequence[Question], *, width: int, seconds: float) -> float:
        """Correct answers per second where `width` callers never pause, about different visitors: equal questions in
        flight would be computed once."""
        with progress("Finding the capacity", None, "requests") as advance:
            found = await saturate(self._once(questions), width=width, seconds=seconds)
            advance(1)
        return found

    def _once(self, questions: Sequence[Question]) -> Ask:
        async def asker(place: int) -> Reply:
            question = questions[place % len(questions)]
            return await ask(self.client, question, f"probe-{place}", self.checker, timeout=self.asked.timeout)

        return asker


@asynccontextmanager
async def beside(work: Sequence[Coroutine[object, object, None]]) -> AsyncIterator[None]:
    """The work goes on meanwhile and is stopped at the end; an error of its own is raised then."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ended:
        if isinstance(end, Exception):
            raise end


def machine(load_before: float) -> Machine:
    """`load_before`: what `os.getloadavg` said before the run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(cores=cores, load_before=round(load_before, 2), load_after=round(os.getloadavg()[0], 2))
