"""Everything at once for half an hour, and whether the service holds more at the end than it did after its warm-up."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
from numpy.typing import NDArray

from loadtest.client import KEEP_ALIVE
from loadtest.planning import Asked
from loadtest.process import Sample, watch
from loadtest.result import Result, Trend
from loadtest.run import run as run_scenario
from loadtest.scenarios import SCENARIOS
from loadtest.soak import report
from loadtest.soak.serving import Served, start
from loadtest.soak.victim import INSIDE
from loadtest.trends import LEAST, WARM_UP, trend, trends
from loadtest.trends import TASKS as TASKS_QUANTITY
from loadtest.visitors import read_bundle
from loadtest.workload import Options

MIXED = next(scenario for scenario in SCENARIOS if scenario.name == "mixed")
RATE = 4.0
VISITORS = 300
CACHE_ENTRIES = 2_000
"""So few that the cache is full before the warm-up is over: until then it may well grow."""
BROWSE_SECONDS = 2.5
SAMPLE_SECONDS = 10.0
A_DAY = 24.0
DAILY = {"memory": 100.0, "anonymous": 100.0, "descriptors": 10.0, "threads": 2.0, "connections": 10.0, "tasks": 10.0}
"""Growth over a day that is no matter, in each quantity's unit."""
RULE = (
    "flat: the 95 % interval of the Theil-Sen slope (over medians of 60 blocks, the first fifth left out) holds 0, or "
    "the slope over a day is at most " + ", ".join(f"{most:g} ({name})" for name, most in DAILY.items())
)


@dataclass
class Browsing:
    """Somebody at the console and somebody at the admin port, a look every two seconds. `wrong`: answers that are
    neither right nor an honest refusal, by what they were."""

    served: Served
    pages: Sequence[str]
    looks: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    async def go_on(self) -> None:
        beginnings = itertools.cycle(page[: 1 + len(page) // 2] for page in self.pages)
        admin = [f"{self.served.admin_url}/admin/{name}" for name in ("keys", "bundles")]
        limits = httpx.Limits(keepalive_expiry=KEEP_ALIVE)
        async with httpx.AsyncClient(trust_env=False, timeout=30.0, limits=limits) as client:
            known = [url for url in admin if (await client.get(url)).status_code != 404]
            while True:
                completion = f"/pages?prefix={quote(next(beginnings))}"
                for url in (
                    *(self.served.url + path for path in ("/", completion, "/bundle", "/report", "/readyz")),
                    *known,
                    self.served.metrics_url,
                ):
                    await self._look(client, url)
                await asyncio.sleep(BROWSE_SECONDS)

    async def _look(self, client: httpx.AsyncClient, url: str) -> None:
        self.looks += 1
        try:
            status = (await client.get(url)).status_code
        except httpx.HTTPError as error:
            self.wrong[type(error).__name__] += 1
        else:
            if status not in (200, 429, 503):
                self.wrong[f"{status} at {httpx.URL(url).path}"] += 1


async def run(bundle: Path, folder: Path, *, minutes: float = 30.0, rate: float = RATE) -> report.Section:
    """Raises `StartError`, and what a run of the scenario raises."""
    began = time.monotonic()
    inside = folder / "inside"
    served = await start(
        bundle,
        folder / "service.log",
        ["--batch-dir", str(folder / "batches"), "--log-level", "warning"],
        module="loadtest.soak.victim",
        variables={INSIDE: str(inside), "HETLM_CACHE_MAX_ENTRIES": str(CACHE_ENTRIES)},
    )
    browsing = Browsing(served, read_bundle(bundle).pages)
    held: list[Sample] = []
    beside = asyncio.create_task(browsing.go_on())
    watching = asyncio.create_task(
        watch(served.pid, held, asyncio.get_running_loop().time(), every=min(SAMPLE_SECONDS, 60.0 * minutes / 60))
    )
    try:
        asked = Asked(
            served.url,
            bundle=bundle,
            rate=rate,
            seconds=60.0 * minutes,
            visitors=VISITORS,
            options=Options(samples=4),
        )
        result = await run_scenario(MIXED, asked)
    finally:
        beside.cancel()
        watching.cancel()
        ended, _ = await asyncio.gather(beside, watching, return_exceptions=True)
        await served.end()
    if isinstance(ended, Exception):
        raise ended
    lines = (await asyncio.to_thread(inside.read_text)).splitlines()
    told = np.array([[float(word) for word in line.split()] for line in lines])
    found = [*(trends(held) or ()), *_tasks(told)]
    return _section(result, found, held, told, browsing, minutes, rate, time.monotonic() - began)


def _tasks(told: NDArray[np.float64]) -> list[Trend]:
    kept = told[told[:, 0] >= told[0, 0] + WARM_UP * (told[-1, 0] - told[0, 0])]
    return [trend(TASKS_QUANTITY, kept[:, 0], kept[:, 1])] if len(kept) >= LEAST else []


def _allocated(told: NDArray[np.float64]) -> list[list[float]]:
    """Every ten seconds: the second, MiB that are allocated, MiB that were freed and are kept, Python's small objects
    in thousands. Nothing where the allocator does not tell."""
    if told.shape[1] == 2:
        return []
    few = told[:: round(SAMPLE_SECONDS), [0, 2, 3, 4]]
    return [
        [round(at - told[0, 0]), round(held / 2**20, 1), round(kept / 2**20, 1), round(objects / 1_000, 1)]
        for at, held, kept, objects in few.tolist()
    ]


def flat(trend: Trend) -> bool:
    """See `RULE`."""
    low, high = trend.interval
    return low <= 0 <= high or trend.slope_per_hour * A_DAY <= DAILY[trend.name]


def _section(
    result: Result,
    found: Sequence[Trend],
    held: Sequence[Sample],
    told: NDArray[np.float64],
    browsing: Browsing,
    minutes: float,
    rate: float,
    seconds: float,
) -> report.Section:
    figures = [
        report.Figure(
            figure=f"{minutes:g} minutes of mixed load: slope of {trend.name}{f', {trend.unit}' if trend.unit else ''}",
            measured=f"{trend.slope_per_hour:+.3g} an hour, 95 % [{trend.interval[0]:+.3g}, {trend.interval[1]:+.3g}], "
            f"at a median of {trend.median:.4g}",
            gate="flat",
            passed=flat(trend),
        )
        for trend in found
    ]
    complaints = list(result.failures)
    complaints += [
        f"at the console and the admin port, {count} times: {what}" for what, count in browsing.wrong.items()
    ]
    if len(found) != len(DAILY):
        complaints.append("not long enough to fit slopes: give more --minutes")
    figures.append(
        report.Figure(
            figure="accepted requests answered correctly or refused honestly under the mixed load",
            measured=report.share(result.answers),
            gate="100 %",
            passed=result.answers.honest == result.answers.accepted > 0,
        )
    )
    return report.Section(
        section="mixed",
        command=f"python -m loadtest.soak mixed --minutes {minutes:g} --rate {rate:g}",
        figures=tuple(figures),
        complaints=tuple(complaints),
        answers=result.answers,
        machine=result.machine,
        seconds=round(seconds, 1),
        details={
            "rule": RULE,
            "trends": [trend.model_dump(mode="json") for trend in found],
            "memory_mib": [
                [round(one.time), round(one.memory / 2**20, 1), round(one.anonymous / 2**20, 1)] for one in held
            ],
            "allocated_mib": _allocated(told),
            "looks_at_console_and_admin": browsing.looks,
            "batch": result.batch.model_dump(mode="json") if result.batch is not None else None,
            "latency_ms": result.counted.latency_ms.model_dump(mode="json"),
            "embedding_hit_ratio": result.counted.embedding_hit_ratio,
            "notes": [note for note in result.flags if "--pid" not in note],
        },
    )
