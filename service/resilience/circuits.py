"""The engine behind circuits: one per server, so that a broken one costs nobody's time, and is asked again soon."""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from browsing.engine import Engine, EngineDown, EngineTimeout, GenerateRequest, Path
from service.logs import described
from service.resilience.backoff import Backoff
from service.resilience.breaker import Breaker
from service.resilience.replicas import PROBE_SECONDS, Replicated, Returning, Single

PATIENCE = 1.0
"""A call that was given less time than this says nothing about its engine by running out of it."""
FIRST_SHARE = 0.6
"""Of the time left, what the first of two replicas is given; the rest is for the second."""


class CircuitOpen(EngineDown):
    """Nobody was asked: every server of this cluster is known to be broken."""


class CircuitMeter(Protocol):
    """What the circuits tell about themselves."""

    def circuit(self, cluster: int, *, is_open: bool) -> None: ...

    def engine_retried(self, cluster: int) -> None: ...


@dataclass(slots=True, eq=False)
class _Place:
    """`recovery`: while its circuit is not closed. `answered`: so many requests."""

    cluster: int
    replica: int
    breaker: Breaker
    answered: int = 0
    recovery: asyncio.Task[None] | None = None


class Circuits:
    """`browsing.engine.Engine` around another one.

    A call goes to a replica whose circuit is closed: equal prompts to the same one, which has them in its prefix cache
    and gives equal answers. Where it fails, another is tried once, within the request's own deadline. A circuit opens
    after a few failures in a row, at once where nobody is there or a health check fails, and is closed by a probe:
    after growing pauses, and at once where the engine says that it is back (`Returning`).
    A cluster none of whose circuits is closed fails at once. `clock`: seconds that never jump.
    """

    def __init__(
        self,
        engine: Engine | Replicated,
        clusters: int,
        meter: CircuitMeter,
        log: FilteringBoundLogger,
        *,
        generator: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine: Replicated = engine if isinstance(engine, Replicated) else Single(engine)
        self._meter = meter
        self._log = log
        self._clock = clock
        self._places = {
            cluster: [
                _Place(cluster, replica, Breaker(Backoff(generator), clock=clock))
                for replica in range(self._engine.replicas(cluster))
            ]
            for cluster in range(clusters)
        }
        self._recovering: set[asyncio.Task[None]] = set()
        self._stopping = False
        if isinstance(engine, Returning):
            engine.on_return(self._returned)

    def closed(self, cluster: int) -> bool:
        """Whether anybody would be asked."""
        return any(place.breaker.closed for place in self._places[cluster])

    def wait(self, cluster: int) -> float:
        """Seconds until the next probe of this cluster is due."""
        return min(place.breaker.wait for place in self._places[cluster])

    async def start(self) -> None:
        await self._engine.start()

    async def generate(self, request: GenerateRequest) -> list[Path]:
        """Raises `CircuitOpen`, and what the last server that was asked raises."""
        if request.cluster not in self._places:
            raise ValueError(f"no cluster {request.cluster}: there are {len(self._places)}")
        end = self._clock() + request.deadline
        places = self._closed(request)
        if not places:
            raise CircuitOpen(f"cluster {request.cluster}: its engine is down")
        share = FIRST_SHARE if len(places) > 1 else 1.0
        try:
            return await self._ask(places[0], replace(request, deadline=request.deadline * share))
        except ValueError:
            raise
        except Exception:
            others = [place for place in self._closed(request) if place is not places[0]]
            left = end - self._clock()
            if not others or left <= 0:
                raise
        self._meter.engine_retried(request.cluster)
        return await self._ask(others[0], replace(request, deadline=left))

    async def healthy(self) -> dict[int, bool]:
        """Opens the circuits of those that do not answer. What a slow check says of a circuit that has been closed
        since it began is out of date; and who answered a request meanwhile is well, only too busy for the check."""
        before = {place: (place.breaker.ticket, place.answered) for place in self._all()}
        found = await self._engine.healthy_replicas()
        well: dict[int, bool] = {}
        for cluster, up in found.items():
            well[cluster] = any(up)
            for place, answers in zip(self._places.get(cluster, ()), up, strict=False):
                ticket, answered = before[place]
                if place.answered > answered:
                    well[cluster] = True
                elif not answers:
                    self._failed(place, ticket, at_once=True)
        return well

    async def stop(self) -> None:
        self._stopping = True  # what fails from now on, fails because of this
        for task in self._recovering:
            task.cancel()
        await asyncio.gather(*self._recovering, return_exceptions=True)
        await self._engine.stop()

    def _all(self) -> Iterable[_Place]:
        return (place for own in self._places.values() for place in own)

    def _closed(self, request: GenerateRequest) -> list[_Place]:
        """The places that may be asked, the prompt's own first."""
        places = self._places[request.cluster]
        own = zlib.crc32(repr(request.prompt).encode()) % len(places)
        return [place for place in (*places[own:], *places[:own]) if place.breaker.closed]

    async def _ask(self, place: _Place, request: GenerateRequest) -> list[Path]:
        ticket = place.breaker.ticket
        try:
            async with asyncio.timeout(request.deadline):  # an engine keeps its deadline; one that does not is left
                paths = await self._engine.generate_on(place.replica, request)
        except ValueError:  # the request's own fault
            raise
        except (TimeoutError, EngineTimeout):
            if request.deadline >= PATIENCE:
                self._failed(place, ticket)
            raise EngineTimeout(f"cluster {place.cluster}: no answer within {request.deadline:g} seconds") from None
        except Exception as error:
            self._failed(place, ticket, at_once=isinstance(error, EngineDown))
            raise
        place.breaker.succeeded(ticket)
        place.answered += 1
        return paths

    def _failed(self, place: _Place, ticket: int, *, at_once: bool = False) -> None:
        if not place.breaker.failed(ticket, at_once=at_once):
            return
        self._log.warning("circuit_opened", cluster=place.cluster, replica=place.replica)
        self._tell(place)
        self._begin_recovery(place)

    def _returned(self, cluster: int | None) -> None:
        """Nobody waits for the end of a pause any more, nor for a probe that the engine before this one was asked."""
        for place in self._all() if cluster is None else self._places[cluster]:
            if place.recovery is not None and not place.recovery.done():
                place.recovery.cancel()
                self._begin_recovery(place, at_once=True)

    def _begin_recovery(self, place: _Place, *, at_once: bool = False) -> None:
        if self._stopping:
            return
        place.recovery = asyncio.create_task(self._recover(place, at_once=at_once))
        self._recovering.add(place.recovery)
        place.recovery.add_done_callback(self._recovering.discard)

    async def _recover(self, place: _Place, *, at_once: bool) -> None:
        """Probe until an answer comes."""
        while True:
            if not at_once:
                await asyncio.sleep(place.breaker.wait)
            at_once = False
            place.breaker.half_open()
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._engine.probe(place.cluster, place.replica)
            except Exception as error:
                place.breaker.reopen()
                self._log.info("circuit_probe_failed", cluster=place.cluster, replica=place.replica, **described(error))
            else:
                place.breaker.close()
                self._log.info("circuit_closed", cluster=place.cluster, replica=place.replica)
                self._tell(place)
                return

    def _tell(self, place: _Place) -> None:
        self._meter.circuit(place.cluster, is_open=not self.closed(place.cluster))
