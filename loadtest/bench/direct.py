"""Direct calls to vLLM servers, as a subject: the same questions, and the same fields made of the answers.

Routing is done before the clock runs, which is to vLLM's advantage; what its answers say is read and estimated by the
caller, since nobody else can.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from browsing.bundle import Bundle
from browsing.engine import GenerateRequest
from browsing.engine import Path as SampledPath
from browsing.forecast import Forecast, Forecaster, Question
from loadtest.bench.asking import forecaster, options, questions
from loadtest.bench.closed import closed
from loadtest.bench.cpu import resident, spent, used
from loadtest.bench.errors import BenchError
from loadtest.bench.peers.completions import Completions
from loadtest.bench.subject import Played
from loadtest.bench.workload import DEADLINE_MS, Workload


class Server(Protocol):
    """`loadtest.bench.peers.vllm.VllmServer`, or what stands in for it."""

    @property
    def pid(self) -> int: ...

    @property
    def completions(self) -> Completions: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Servers:
    """`browsing.engine.Engine`, as far as a forecast needs one: cluster k is asked at server k."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers

    async def start(self) -> None:
        for server in self.servers:  # one after another: each takes what memory it finds
            await server.start()

    async def generate(self, request: GenerateRequest) -> list[SampledPath]:
        return await self.servers[request.cluster].completions.generate(request)

    async def healthy(self) -> dict[int, bool]:
        return dict.fromkeys(range(len(self.servers)), True)

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.servers))


class DirectVllm:
    """`servers`: one per cluster of the bundle, in their order."""

    def __init__(self, name: str, bundle: Bundle, workload: Workload, servers: Sequence[Server]) -> None:
        """Raises `BundleError` without the bundle's encoder."""
        self.name = name
        self.servers = servers
        self._bundle = bundle
        self._workload = workload
        self._engine = Servers(servers)
        self._forecaster: Forecaster = forecaster(bundle)
        self._questions: list[Question] = questions(bundle, workload)

    async def start(self) -> None:
        await self._engine.start()

    async def play(self, numbers: range, concurrency: int) -> Played:
        async def ask(number: int) -> Forecast:
            question = self._questions[self._workload.place(number)]
            chosen = options(self._workload, self._bundle, number)
            draws = await self._forecaster.draw(self._engine, question, chosen, DEADLINE_MS / 1000)
            return self._forecaster.summarise(question, draws, chosen)

        before, own = self._used(), time.process_time()
        loop = await closed([ask] * min(concurrency, len(numbers)), numbers)
        generator, cpu = time.process_time() - own, spent(before, self._used())
        memory = sum(resident(server.pid) for server in self.servers)
        for server in self.servers:
            await server.completions.rest()
        for timed in loop.asked:
            if not timed.reply.pages or set(timed.reply.outcomes) != set(self._forecaster.outcomes):
                raise BenchError(f"{self.name}: an answer lacks pages or outcomes")
        return Played(loop.seconds, tuple(timed.seconds for timed in loop.asked), cpu, generator, memory)

    def _used(self) -> dict[str, float]:
        total: dict[str, float] = {}
        for server in self.servers:
            for name, seconds in used(server.pid).items():
                total[name] = total.get(name, 0.0) + seconds
        return total

    async def stop(self) -> None:
        await self._engine.stop()
