"""A full disk, where something is written: the log, and the engines' logs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TextIO

import httpx
import pytest

from browsing.bundle import Bundle
from browsing.engine import EngineError
from service.app import build
from service.cache.memory import MemoryStore
from service.engines.machine import Tuning
from service.engines.vllm import VllmEngine
from service.logs import Lossy, logger
from service.settings import Settings
from tests.service.faults.traffic import Fakes, Visitor, drive, tables
from tests.tiny import TinyEncoder

FULL = Path("/dev/full")
"""Every write to it fails as on a full disk."""


def test_a_full_disk_behind_the_log_costs_lines_and_no_answer(bundle: Bundle, people: list[Visitor]) -> None:
    async def scenario(log: TextIO) -> None:
        engine = Fakes(tables(bundle))
        settings = Settings(log_level="debug", probe_seconds=0.1)
        service = build(settings, bundle, engine, TinyEncoder(), MemoryStore(), stream=log)
        async with service.app.router.lifespan_context(service.app):
            await service.health.started()
            transport = httpx.ASGITransport(service.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
                assert set((await drive(client, people)).kinds) == {"model"}
                engine.failures = [RuntimeError("a bug")] * 2
                account = await drive(client, people)
                assert set(account.kinds) == {"model", "fallback"}, "warnings are lost, too"

    log = FULL.open("w", buffering=1)
    try:
        asyncio.run(scenario(log))
    finally:
        with pytest.raises(OSError, match="No space"):
            log.close()


def test_the_log_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    class Filling(Lossy):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    with (tmp_path / "log").open("w") as file:
        disk = Filling(file)
        log = logger("info", disk)  # type: ignore[arg-type]
        log.info("lost")
        disk.full = False
        log.info("kept")
    assert "kept" in (tmp_path / "log").read_text()
    assert "lost" not in (tmp_path / "log").read_text()


def test_an_engine_without_room_for_its_log_says_so(tmp_path: Path, bundle: Bundle) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "cluster-0.log").mkdir()  # nothing can be written there
    (logs / "cluster-0.previous.log").mkdir()
    (logs / "cluster-0.previous.log" / "x").mkdir()
    engine = VllmEngine(
        bundle.predictors(),
        len(bundle.vocabulary),
        tuning=Tuning(gpu=False, dtype="float32", eager=True),
        logs=logs,
    )
    with pytest.raises(EngineError, match="cluster 0: vLLM did not start"):
        asyncio.run(engine.start())
