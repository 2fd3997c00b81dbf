"""The real service: what it says is what the load test expects."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from browsing.bundle import Bundle
from loadtest.planning import Asked
from loadtest.result import Result
from loadtest.run import run
from loadtest.scenarios import SCENARIOS
from loadtest.workload import Options
from service.settings import Settings
from tests import tiny
from tests.service.building import SlowEngine, running, tables

PAGES = tuple(f"/page-{i}" for i in range(30))
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("loadtest") / "bundle"
    tiny.bundle(directory, pages=("/cart", "/purchase", *PAGES))
    return directory


@pytest.fixture
def asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setenv("HETLM_QUIET", "1")
    return Asked("http://service", bundle=root, rate=20.0, seconds=2.0, visitors=20, options=Options(samples=2))


def ran(root: Path, name: str, asked: Asked, settings: Settings | None = None, seconds: float = 0.0) -> Result:
    async def drive() -> Result:
        bundle = Bundle.load(root)
        engine = SlowEngine(tables(len(bundle.vocabulary), bundle.clusters), seconds)
        async with running(bundle, engine=engine, settings=settings) as made:
            return await run(BY_NAME[name], asked, made.client._transport)

    return asyncio.run(drive())


def test_its_answers_are_right(root: Path, asked: Asked) -> None:
    found = ran(root, "steady", asked)
    assert found.passed, found
    assert found.answers.accepted == found.answers.correct > 20
    assert found.answers.unsteady == 0
    assert found.counted.embedding_hit_ratio is not None
    assert found.counted.embedding_hit_ratio > 0


def test_its_refusals_are_honest(root: Path, asked: Asked) -> None:
    found = ran(root, "spike", asked, Settings(max_in_flight=1), seconds=0.3)
    assert found.passed, found
    assert found.answers.refused > 0
    assert "429" in found.counted.by_status


def test_its_fallback_is_right_too(root: Path, asked: Asked) -> None:
    found = ran(root, "steady", replace(asked, options=Options(samples=2, deadline_ms=1)), seconds=0.05)
    assert found.passed, found
    assert found.counted.by_fallback.get("engine_down", 0) > 0


def test_files_beside_are_scored_row_by_row(root: Path, asked: Asked, tmp_path: Path) -> None:
    settings = Settings(batch_dir=tmp_path / "jobs", batch_patience_seconds=0.0)
    found = ran(root, "batch-beside", replace(asked, pairs=1), settings)
    assert found.pairs is not None
    assert found.pairs.pairs[0].batch.route == "/batches"
    assert found.pairs.pairs[0].batch.wrong == 0
    assert found.answers.accepted == found.answers.honest


def test_a_file_to_its_end(root: Path, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.run.SOAK_FILE_ROWS", 2)
    settings = Settings(batch_dir=tmp_path / "jobs", batch_patience_seconds=0.0)
    found = ran(root, "mixed", replace(asked, seconds=5.0, rate=5.0), settings)
    assert found.passed, found
    assert found.batch is not None
    assert found.batch.files >= 1
    assert found.batch.wrong == 0
