"""Whatever answers `POST /predict`, as a subject: our service, and the peer that answers alike."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import ValidationError

from browsing.bundle import MANIFEST, Manifest
from loadtest.answers import Answer
from loadtest.bench.child import Child
from loadtest.bench.closed import closed
from loadtest.bench.cpu import resident, spent, used
from loadtest.bench.errors import BenchError
from loadtest.bench.subject import Played
from loadtest.bench.wire import Reply, Wire
from loadtest.bench.workload import Workload
from loadtest.check import wrong
from loadtest.soak.serving import Served, StartError, start

PATH = "/predict"


class Answering(ABC):
    """The callers are in this process; bodies are made before, answers are checked after the clock ran."""

    def __init__(self, name: str, bundle: Path, workload: Workload, log: Path) -> None:
        self.name = name
        self.log = log
        self.bundle = bundle
        self._workload = workload
        self._version = Manifest.model_validate_json((bundle / MANIFEST).read_bytes()).version

    @property
    @abstractmethod
    def pid(self) -> int: ...

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    async def play(self, numbers: range, concurrency: int) -> Played:
        bodies = {number: self._workload.question(number).body for number in numbers}
        wires = [await Wire.open(self.url) for _ in range(min(concurrency, len(numbers)))]

        def caller(wire: Wire) -> Callable[[int], Awaitable[Reply]]:
            return lambda number: wire.post(PATH, bodies[number], f"X-Request-Id: {_id(number)}\r\n")

        try:
            before, own = used(self.pid), time.process_time()
            loop = await closed([caller(wire) for wire in wires], numbers)
            generator, cpu = time.process_time() - own, spent(before, used(self.pid))
            memory = resident(self.pid)
        except BenchError as error:
            raise BenchError(f"{self.name}: {error}; its log: {self.log}") from None
        finally:
            for wire in wires:
                await wire.close()
        for timed in loop.asked:
            self._check(timed.number, timed.reply)
        return Played(loop.seconds, tuple(timed.seconds for timed in loop.asked), cpu, generator, memory)

    def _check(self, number: int, reply: Reply) -> None:
        """Raises `BenchError`."""
        if reply.status != 200:
            raise BenchError(f"{self.name}: a request was answered with status {reply.status}; its log: {self.log}")
        try:
            answer = Answer.model_validate_json(reply.content)
        except ValidationError as error:
            where = error.errors(include_input=False, include_url=False)[0]["loc"]
            raise BenchError(f"{self.name}: an answer is malformed: {'.'.join(map(str, where))}") from None
        reason = wrong(answer, self._workload.question(number), _id(number), (self._version,), None)
        if reason:
            raise BenchError(f"{self.name}: an answer is wrong: {reason}")


class OurService(Answering):
    """`hetlm serve` on free ports."""

    def __init__(self, name: str, bundle: Path, workload: Workload, threads: int, log: Path) -> None:
        super().__init__(name, bundle, workload, log)
        self._arguments = ("--threads", str(threads), "--log-level", "warning")
        self._served: Served | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def url(self) -> str:
        return self._running().url

    def _running(self) -> Served:
        if self._served is None:
            raise BenchError(f"{self.name}: not started")
        return self._served

    async def start(self) -> None:
        variables = {"HETLM_MAX_IN_FLIGHT": "1024", "HETLM_LAME_DUCK_SECONDS": "0"}
        try:
            self._served = await start(self.bundle, self.log, self._arguments, variables=variables)
        except StartError as error:
            raise BenchError(f"{self.name}: {error}") from None

    async def stop(self) -> None:
        served, self._served = self._served, None
        if served is not None:
            await served.end()


class TransformersApp(Answering):
    """See `loadtest.bench.peers.transformers_app`."""

    def __init__(self, name: str, bundle: Path, workload: Workload, threads: int, log: Path) -> None:
        super().__init__(name, bundle, workload, log)
        arguments = [str(bundle), str(workload.samples), str(threads)]
        self._child = Child("loadtest.bench.peers.transformers_app", arguments, log)
        self._url = ""

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def url(self) -> str:
        return self._url

    async def start(self) -> None:
        await self._child.launch()
        self._url = (await self._child.hear()).strip()

    async def stop(self) -> None:
        await self._child.end()


def _id(number: int) -> str:
    return f"bench-{number}"
