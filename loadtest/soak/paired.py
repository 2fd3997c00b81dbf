"""p95 of `POST /predict` with a batch beside it over p95 without: paired runs in alternation, at a set utilisation."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from loadtest.planning import Asked
from loadtest.run import run as run_scenario
from loadtest.scenarios import P95_LIMIT, SCENARIOS
from loadtest.soak import report
from loadtest.soak.serving import start
from loadtest.workload import Options

SCENARIO = next(scenario for scenario in SCENARIOS if scenario.batch == "paired")
VISITORS = 300
LEAST_PAIRS = 3
"""For a verdict on the ratio: the median of fewer is any of them. Whether the answers are right is judged always."""


async def run(
    bundle: Path, folder: Path, *, seconds: float = 60.0, pairs: int = 5, utilisation: float = 0.3
) -> report.Section:
    """Raises `StartError`, `ServiceError`, `PairError`."""
    began = time.monotonic()
    served = await start(
        bundle, folder / "service.log", ["--batch-dir", str(folder / "batches"), "--log-level", "warning"]
    )
    try:
        asked = Asked(
            served.url,
            bundle=bundle,
            seconds=seconds,
            visitors=VISITORS,
            options=Options(),
            pairs=pairs,
            utilisation=utilisation,
        )
        result = await run_scenario(SCENARIO, asked)
    finally:
        await served.end()
    found = result.pairs
    assert found is not None, "the scenario is the one with pairs"
    ratios = [pair.p95_ratio for pair in found.pairs]
    median, enough = statistics.median(ratios), len(ratios) >= LEAST_PAIRS
    return report.Section(
        section="paired",
        command=f"python -m loadtest.soak paired --seconds {seconds:g} --pairs {pairs} --utilisation {utilisation:g}",
        figures=(
            report.Figure(
                figure="p95 of POST /predict with a batch beside it over p95 without, median of "
                f"{len(ratios)} pairs at {utilisation:.0%} utilisation",
                measured=f"{median:.3f}, from {min(ratios):.3f} to {max(ratios):.3f}",
                gate=f"at most {P95_LIMIT:g}" + f", from {LEAST_PAIRS} pairs on" * (not enough),
                passed=median <= P95_LIMIT if enough else None,
            ),
            report.Figure(
                figure="accepted requests answered correctly or refused honestly in these runs",
                measured=report.share(result.answers),
                gate="100 %",
                passed=result.answers.honest == result.answers.accepted > 0,
            ),
        ),
        complaints=tuple(text for text in result.failures if not text.startswith("p95 with a file")),
        answers=result.answers,
        machine=result.machine,
        seconds=round(time.monotonic() - began, 1),
        details={
            "capacity_per_second": found.capacity,
            "rate_per_second": result.rate,
            "pairs": [
                {
                    "first": pair.first,
                    "p95_without_ms": pair.without.latency_ms.p95,
                    "p95_with_ms": pair.beside.latency_ms.p95,
                    "ratio": round(pair.p95_ratio, 4),
                    "rows_per_second_beside": pair.batch.rows_per_second,
                }
                for pair in found.pairs
            ],
            "geometric_mean": round(found.p95_ratio.mean, 4),
            "interval": list(found.p95_ratio.interval) if found.p95_ratio.interval else None,
            "notes": list(result.flags),
        },
    )
