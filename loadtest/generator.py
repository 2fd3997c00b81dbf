"""The open-loop generator.

A closed loop, whose clients send their next request when the last one is answered, asks a stalled server one slow
question and then waits with it: the hundred that should have come meanwhile are never asked, and its percentiles look
fine. That mistake is called coordinated omission (Gil Tene). Here arrivals are fixed before the run, nothing that the
server does moves them, and latency runs from the moment at which a request was MEANT to start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from loadtest.arrivals import Times
from loadtest.check import Verdict


@dataclass(frozen=True, slots=True)
class Reply:
    """`status`: the HTTP status, or what came instead of one."""

    status: str
    verdict: Verdict


DROPPED = Reply("dropped", Verdict("dropped", "as many requests as allowed were outstanding"))


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one arrival; seconds from the run's start. `sent`, `ended`: `intended` for a dropped one."""

    place: int
    intended: float
    sent: float
    ended: float
    reply: Reply

    @property
    def latency(self) -> float:
        """From the intended start."""
        return self.ended - self.intended

    @property
    def lag(self) -> float:
        """How late the generator itself was."""
        return self.sent - self.intended

    def later(self, seconds: float) -> Fate:
        """The same, as of a run that started so much earlier."""
        return replace(self, intended=self.intended + seconds, sent=self.sent + seconds, ended=self.ended + seconds)


class Ask(Protocol):
    """Sends the request of one arrival; whatever goes wrong is in the reply."""

    async def __call__(self, place: int) -> Reply: ...


async def drive(
    times: Times, ask: Ask, *, bound: int, begin: float | None = None, advance: Callable[[float], None] | None = None
) -> list[Fate]:
    """Start a request at each of `times`, whatever became of the earlier ones, and wait for the last.

    An arrival that finds `bound` requests outstanding is not sent and counts as a failure: waiting for room would slow
    the arrivals, which is the mistake above. `begin`: the loop's time at which the run starts. The clock is the event
    loop's. One fate per arrival, in their order.
    """
    loop = asyncio.get_running_loop()
    start = loop.time() if begin is None else begin
    fates: list[Fate] = []
    outstanding = 0

    async def one(place: int, intended: float) -> None:
        nonlocal outstanding
        sent = loop.time() - start
        reply = await ask(place)
        fates.append(Fate(place, intended, sent, loop.time() - start, reply))
        outstanding -= 1

    async with asyncio.TaskGroup() as group:
        for place, intended in enumerate(times.tolist()):
            await asyncio.sleep(max(0.0, start + intended - loop.time()))  # also where it is late: others must get on
            if outstanding >= bound:
                fates.append(Fate(place, intended, intended, intended, DROPPED))
            else:
                outstanding += 1
                group.create_task(one(place, intended))
            if advance is not None:
                advance(1)
    return sorted(fates, key=lambda fate: fate.place)


async def saturate(ask: Ask, *, width: int, seconds: float, warm_up: float = 0.2) -> float:
    """Correct answers per second of a closed loop with `width` callers, not counting the first part of the time: what
    the server can do. Only for this: its latencies would be worth nothing."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    first, end = start + warm_up * seconds, start + seconds
    places = iter(range(2**62))
    correct = 0

    async def caller() -> None:
        nonlocal correct
        while loop.time() < end:
            reply = await ask(next(places))
            if reply.verdict.kind == "correct" and first <= loop.time() < end:
                correct += 1
            elif reply.verdict.kind != "correct":
                await asyncio.sleep(0.05)  # a refusal costs nothing: asking again at once would be all that is measured

    await asyncio.gather(*(caller() for _ in range(width)))
    return correct / (end - first)
