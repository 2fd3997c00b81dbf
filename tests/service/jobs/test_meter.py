"""Batches in figures."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client import CollectorRegistry

from service.jobs.meter import Meter
from service.scoring.online import Online
from service.scoring.results import Tally
from tests.service.jobs.building import desk, lines, make_jobs
from tests.service.scoring.building import Answering

RESULTS = ("ok", "problem", "engine_down", "left")


def running(registry: CollectorRegistry) -> dict[str, float | None]:
    return {r: registry.get_sample_value("hetlm_batch_running_rows", {"result": r}) for r in RESULTS}


def counted(registry: CollectorRegistry) -> list[float | None]:
    return [registry.get_sample_value("hetlm_batch_rows_total", {"result": r}) for r in RESULTS[:3]]


def test_a_batch_from_its_start_to_its_end() -> None:
    registry, online = CollectorRegistry(), Online()
    meter = Meter(registry, online)
    assert running(registry) == dict.fromkeys(RESULTS, 0)
    meter.begun(Tally(40, 5, 2), 100)
    assert running(registry) == {"ok": 33, "problem": 5, "engine_down": 2, "left": 60}
    assert registry.get_sample_value("hetlm_batch_progress") == 0.4
    assert counted(registry) == [0, 0, 0], "an earlier run counted those"
    meter.scored(Tally(40, 5, 2), Tally(43, 6, 3), 100)
    assert running(registry) == {"ok": 34, "problem": 6, "engine_down": 3, "left": 57}
    assert counted(registry) == [1, 1, 1]
    assert registry.get_sample_value("hetlm_batch_progress") == 0.43
    meter.idle()
    assert running(registry) == dict.fromkeys(RESULTS, 0)
    assert registry.get_sample_value("hetlm_batch_progress") == 0
    assert counted(registry) == [1, 1, 1]


def test_time_waited_only_grows() -> None:
    registry, online = CollectorRegistry(), Online()
    Meter(registry, online)
    online.waited = 2.5
    assert registry.get_sample_value("hetlm_batch_waited_seconds_total") == 2.5


def test_chunks_and_ends() -> None:
    registry, online = CollectorRegistry(), Online()
    meter = Meter(registry, online)
    names = ("hetlm_batch_chunks_total", "hetlm_batch_expired_total", "hetlm_batch_not_removed")
    assert [registry.get_sample_value(name) for name in names] == [0, 0, 0]
    meter.chunk()
    meter.chunk()
    meter.expired()
    meter.not_removed(3)
    assert [registry.get_sample_value(name) for name in names] == [2, 1, 3]
    meter.not_removed(0)
    assert registry.get_sample_value("hetlm_batch_not_removed") == 0


def test_jobs_of_an_earlier_life_are_counted_before_any_work_begins(tmp_path: Path) -> None:
    """While an engine starts they would be none, and then as if all had ended at once."""

    async def never() -> None:
        await asyncio.Event().wait()

    async def scenario() -> float | None:
        async with desk(tmp_path) as made:
            await made.until(await made.made(lines()), "done")
            await made.at_rest()
        registry = CollectorRegistry()
        async with make_jobs(tmp_path, Answering(), registry=registry).running(never):
            return registry.get_sample_value("hetlm_batch_jobs", {"state": "done"})

    assert asyncio.run(scenario()) == 1
