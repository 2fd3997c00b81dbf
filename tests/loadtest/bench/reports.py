"""Reports with known figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadtest.bench.document import BundleShape, Conditions, Figure, Product, Report, Setting, Side, Study
from loadtest.bench.spread import Spread
from loadtest.result import Latency, Machine


def side(
    comparison: str,
    subject: str,
    number: int = 0,
    *,
    concurrency: int = 64,
    per_second: float = 10.0,
    p50: float = 10.0,
    cpu: float = 1.0,
    memory: int = 100,
    operations: float | None = None,
) -> Side:
    return Side(
        comparison=comparison,
        subject=subject,
        round=number,
        concurrency=concurrency,
        requests=20,
        seconds=20 / per_second,
        per_second=per_second,
        latency_ms=Latency(n=20, p50=p50, p95=2 * p50, p99=3 * p50, max=4 * p50),
        cpu_ms={"python": cpu / 2, "another": cpu / 2},
        generator_cpu_ms=0.1,
        memory=memory,
        operations=operations,
    )


def figure(key: str, values: Sequence[float], *, better: str = "higher", unit: str = "ratio") -> Figure:
    return Figure.model_validate(
        {
            "key": key,
            "figure": f"figure {key}",
            "unit": unit,
            "better": better,
            "value": Spread.of_ratios(values) if values else None,
            "limit": 2.0,
        }
    )


def report(figures: Sequence[Figure], sides: Sequence[Side] = (), *, threads: int = 2, parameters: int = 5) -> Report:
    return Report(
        command="python -m loadtest.bench peers",
        machine=Machine(cores=2, load_before=0.1, load_after=2.0),
        processor="a processor",
        versions={"torch": "2"},
        conditions=Conditions(
            threads=threads,
            workload_sha256="0" * 64,
            source="dataset",
            visitors=12,
            prompt_tokens=20.5,
            samples=16,
            top_pages=20,
            max_steps=20,
            vocabulary=404,
            outcomes=("cart", "purchase"),
            concurrency=64,
            subjects={"K=3": BundleShape(clusters=3, parameters=parameters, version="f" * 64)},
        ),
        figures=tuple(figures),
        sides=tuple(sides),
        products=(Product(comparison="engine", round=0, per_second=1e9),),
        flags=(),
        seconds=1.0,
    )


KINDS = ("bench-paths", "bench-encoder", "bench-stacked", "bench-ingest")


def study(kind: str, figures: Sequence[Figure], conditions: Mapping[str, Setting] | None = None) -> Study:
    return Study.model_validate(
        {
            "kind": kind,
            "command": f"python -m loadtest.{kind.replace('-', ' ')}",
            "machine": Machine(cores=2, load_before=0.1, load_after=2.0),
            "processor": "a processor",
            "versions": {"torch": "2"},
            "conditions": conditions or {"threads": 1},
            "settings": {"rounds": 3},
            "details": {"runs": [1, 2.5]},
            "figures": tuple(figures),
            "flags": (),
            "seconds": 1.0,
        }
    )
