"""Visitors in front of the service on trial: open-loop load, and each answer beside the one without faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from loadtest.arrivals import Span, poisson
from loadtest.check import Verdict
from loadtest.client import Asker
from loadtest.generator import Fate, drive
from loadtest.soak.reference import Comparing
from loadtest.stage import Companion, beside
from loadtest.visitors import read_bundle, walks
from loadtest.workload import Options, Plan, Question, patience, question, zipf

BOUND = 1_000
TIMEOUT = 30.0
RECOVERY = 120.0
"""Seconds after which a service that was broken counts as lost."""
_PAUSE = 0.1


def questions(
    bundle: Path, count: int, *, strict: float = 0.0, seed: int = 0, samples: int = 8
) -> tuple[Question, ...]:
    """About random walks over the bundle's pages; the share `strict` asks for no fallback."""
    visitors = walks(read_bundle(bundle).pages, count, np.random.default_rng(seed))
    every = round(1 / strict) if strict else count + 1
    return tuple(
        question(visitor, number, Options(samples=samples, strict=(number + 1) % every == 0))
        for number, visitor in enumerate(visitors)
    )


@dataclass
class Crowd:
    """`fates`: of all that was asked under load."""

    client: httpx.AsyncClient
    questions: tuple[Question, ...]
    checker: Comparing
    seed: int = 0
    fates: list[Fate] = field(default_factory=list)
    _drives: int = 0

    async def load(
        self,
        rate: float,
        seconds: float,
        companions: Sequence[Companion] = (),
        *,
        leaving: float = 0.0,
        leaves_after: float = 0.1,
    ) -> list[Fate]:
        """Poisson arrivals, `rate` per second, a Zipf law over the visitors; what goes on beside them ends with the
        last answer."""
        self._drives += 1
        generator = np.random.default_rng((self.seed, self._drives))
        times = poisson(rate, seconds, generator)
        order = zipf(len(self.questions), 1.0, len(times), generator)
        leaves = patience(len(times), leaving, leaves_after, generator)
        plan = Plan(times, (Span("load", 0.0, seconds, True),), self.questions, order, leaves)
        begin = asyncio.get_running_loop().time() + _PAUSE
        asker = Asker(self.client, plan, self.checker, timeout=TIMEOUT)
        async with beside([companion(begin) for companion in companions]):
            fates = await drive(times, asker, bound=BOUND, begin=begin)
        self.fates += fates
        return fates

    async def everybody(self, *, width: int = 4) -> list[Verdict]:
        """Each question once, some at a time."""
        stay = np.full(len(self.questions), np.inf)
        spans = (Span("all", 0.0, 1.0, True),)
        plan = Plan(np.zeros(len(self.questions)), spans, self.questions, np.arange(len(self.questions)), stay)
        asker = Asker(self.client, plan, self.checker, timeout=TIMEOUT)
        queue = iter(range(len(self.questions)))
        fates: list[Fate] = []

        async def worker() -> None:
            for place in queue:
                sent = time.monotonic()
                reply = await asker(place)
                fates.append(Fate(place, sent, sent, time.monotonic(), reply))

        await asyncio.gather(*(worker() for _ in range(width)))
        self.fates += fates
        return [fate.reply.verdict for fate in sorted(fates, key=lambda fate: fate.place)]

    async def well(self, *, seconds: float = RECOVERY) -> bool:
        """Waits until everybody is answered by the model; False where that does not come."""
        end = time.monotonic() + seconds
        while not all(v.kind == "correct" and v.fallback is None for v in await self.everybody()):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(_PAUSE)
        return True
