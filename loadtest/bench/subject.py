"""The port of everything that is measured: it plays a stretch of the workload and tells what that took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Played:
    """One stretch. `latencies`: seconds, one per request. `cpu`: seconds by process, the generator's own left out;
    `generator`: the generator's own. `memory`: resident bytes at the end. `operations`: of a prediction, on average,
    where the subject can tell."""

    seconds: float
    latencies: tuple[float, ...]
    cpu: Mapping[str, float] = field(default_factory=dict)
    generator: float = 0.0
    memory: int = 0
    operations: float | None = None

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds


class Subject(Protocol):
    """Started once and then played in turns with the others; while it is not its turn it is idle."""

    @property
    def name(self) -> str: ...

    async def start(self) -> None:
        """Returns when it answers. Raises `BenchError`."""

    async def play(self, numbers: range, concurrency: int) -> Played:
        """Requests `numbers` of the workload, `concurrency` at once. Raises `BenchError` for an answer that is
        missing or wrong: what is fast and wrong is not measured."""

    async def stop(self) -> None: ...
