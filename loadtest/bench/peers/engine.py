"""The embedded engine alone, in a process of its own: no HTTP, no JSON, no routing, nothing but predictions.

    python -m loadtest.bench.peers.engine BUNDLE WORKLOAD THREADS

Reads one command per line from stdin and answers with one line of JSON: `Stretch` plays requests of the workload,
`Matrix` measures what the same threads reach in a large matrix product.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

from browsing.bundle import Bundle
from browsing.engine import Engine
from browsing.forecast import Draws, Forecaster, Question
from browsing.threads import keep_to
from loadtest.bench.asking import forecaster, options, questions
from loadtest.bench.closed import closed
from loadtest.bench.operations import Shape
from loadtest.bench.workload import DEADLINE_MS, Workload

SIDE = 2048
"""Of the matrices: large enough that nothing but arithmetic counts, and in float32, as the engine computes."""


class Stretch(BaseModel):
    """`draw`: the paths alone. `forecast`: decoded and estimated, too."""

    do: Literal["draw", "forecast"]
    first: int
    count: int
    concurrency: int


class Matrix(BaseModel):
    do: Literal["matrix"] = "matrix"
    seconds: float


class Told(BaseModel):
    """Of a stretch: `seconds`, `cpu` seconds of this process, a latency per request, operations of a prediction (None
    for a family whose operations are not known). Of a matrix product: operations per second."""

    seconds: float = 0.0
    cpu: float = 0.0
    latencies: list[float] = []
    operations: float | None = None
    per_second: float = 0.0


COMMAND: TypeAdapter[Stretch | Matrix] = TypeAdapter(Annotated[Stretch | Matrix, Field(discriminator="do")])


class Alone:
    """An engine that is asked what the service would ask it."""

    def __init__(self, engine: Engine, bundle: Bundle, workload: Workload) -> None:
        self._engine = engine
        self._bundle = bundle
        self._workload = workload
        self._forecaster: Forecaster = forecaster(bundle)
        self._questions: list[Question] = questions(bundle, workload)
        try:
            self._shape: Shape | None = Shape.read(bundle.predictor(0))
        except ValueError:
            self._shape = None

    async def play(self, stretch: Stretch) -> Told:
        async def ask(number: int) -> tuple[Question, Draws]:
            question = self._questions[self._workload.place(number)]
            chosen = options(self._workload, self._bundle, number)
            draws = await self._forecaster.draw(self._engine, question, chosen, DEADLINE_MS / 1000)
            if stretch.do == "forecast":
                self._forecaster.summarise(question, draws, chosen)
            return question, draws

        before = time.process_time()
        loop = await closed([ask] * stretch.concurrency, range(stretch.first, stretch.first + stretch.count))
        return Told(
            seconds=loop.seconds,
            cpu=time.process_time() - before,
            latencies=[timed.seconds for timed in loop.asked],
            operations=self._operations([timed.reply for timed in loop.asked]),
        )

    def _operations(self, answered: list[tuple[Question, Draws]]) -> float | None:
        if self._shape is None:
            return None
        total = 0
        for question, draws in answered:
            paths = [*draws.free, *(path for own in draws.without.values() for path in own), draws.greedy]
            total += self._shape.prediction(len(question.prompt), [len(path.tokens) for path in paths])
        return total / len(answered)


def matrix(seconds: float, threads: int) -> Told:
    """The best of as many products of two large matrices as fit into `seconds`, at least three."""
    import torch

    keep_to(threads)
    a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    out = torch.empty(SIDE, SIDE)
    best, until, done = float("inf"), time.perf_counter() + seconds, 0
    while done < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - began)
        done += 1
    return Told(per_second=2 * SIDE**3 / best)


async def _serve(bundle: Bundle, workload: Workload, threads: int, tell: Callable[[str], None]) -> None:
    from browsing.engines.local import LocalEngine

    engine = LocalEngine(bundle.predictors(), threads=threads)
    alone = Alone(engine, bundle, workload)
    await engine.start()
    try:
        tell(Told().model_dump_json())
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = COMMAND.validate_json(line)
            if isinstance(asked, Matrix):
                with ThreadPoolExecutor(1) as other:  # and its helpers are gone after it
                    told = await asyncio.get_running_loop().run_in_executor(other, matrix, asked.seconds, threads)
            else:
                told = await alone.play(asked)
            tell(told.model_dump_json())
    finally:
        await engine.stop()


def main(bundle: str, workload: str, threads: str) -> None:
    keep_to(1)  # as `hetlm serve` does: its engine has a thread of its own

    def tell(line: str) -> None:
        print(line, flush=True)

    asyncio.run(_serve(Bundle.load(Path(bundle)), Workload.read(Path(workload)), int(threads), tell))


if __name__ == "__main__":
    main(*sys.argv[1:])
