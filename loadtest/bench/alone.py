"""The embedded engine without the service around it, as a subject."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from loadtest.bench.child import Child
from loadtest.bench.cpu import resident
from loadtest.bench.peers.engine import Matrix, Stretch, Told
from loadtest.bench.subject import Played

MODULE = "loadtest.bench.peers.engine"


class Worker:
    """The process that holds the engine. Both subjects below are played on it."""

    def __init__(self, bundle: Path, workload: Path, threads: int, log: Path) -> None:
        self._child = Child(MODULE, [str(bundle), str(workload), str(threads)], log)

    async def start(self) -> None:
        if not self._child.alive():
            await self._child.launch()
            await self._child.hear()

    async def ask(self, command: BaseModel) -> Told:
        await self._child.tell(command.model_dump_json())
        return Told.model_validate_json(await self._child.hear())

    async def product(self, seconds: float) -> float:
        """Operations per second of the machine's own large matrix product, with the engine's threads."""
        return (await self.ask(Matrix(seconds=seconds))).per_second

    def memory(self) -> int:
        return resident(self._child.pid)

    async def stop(self) -> None:
        await self._child.end()


class EngineAlone:
    """`do`: paths alone, or decoded and estimated in the same process, too. The callers live in it as well, so that
    its CPU includes theirs, which is next to nothing."""

    def __init__(self, name: str, worker: Worker, do: Literal["draw", "forecast"]) -> None:
        self.name = name
        self._worker = worker
        self._do: Literal["draw", "forecast"] = do

    async def start(self) -> None:
        await self._worker.start()

    async def play(self, numbers: range, concurrency: int) -> Played:
        told = await self._worker.ask(
            Stretch(do=self._do, first=numbers.start, count=len(numbers), concurrency=concurrency)
        )
        return Played(
            seconds=told.seconds,
            latencies=tuple(told.latencies),
            cpu={"engine": told.cpu},
            memory=self._worker.memory(),
            operations=told.operations,
        )

    async def stop(self) -> None:
        await self._worker.stop()
