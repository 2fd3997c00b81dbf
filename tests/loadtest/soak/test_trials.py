"""A bounded sample of every trial, on a real service of its own; `make soak` has them whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import httpx
import pytest

from loadtest import pairs
from loadtest.answers import BatchJob
from loadtest.client import ServiceError
from loadtest.soak import cancellations, faults, interface, kills, mixed, paired, recovery
from loadtest.soak.report import Section
from loadtest.workload import Options
from tests import tiny

PAGES = ("/", "/bags", "/bags/tote", "/cart", "/purchase", *(f"/page-{i}" for i in range(25)))
SAMPLE = ("answers 500", "in the middle", "probabilities", "Redis is killed", "clock", "disk", "wrong hash", "SIGTERM")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("soak") / "bundle"
    tiny.bundle(root, pages=PAGES, encoder="predictor", seed=4)
    return root


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HETLM_QUIET", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def held(trial: Coroutine[None, None, Section]) -> Section:
    found = asyncio.run(trial)
    assert found.passed, found.model_dump_json(indent=2)
    return found


def test_faults_under_load(bundle: Path, tmp_path: Path) -> None:
    found = held(faults.run(bundle, tmp_path, rate=8.0, hold=2.0, only=SAMPLE))
    tried = found.details["faults"]
    assert isinstance(tried, dict)
    assert len(tried) == len(SAMPLE)
    broken = tried["an engine answers 500"]
    assert isinstance(broken, dict)
    assert broken["noticed"], "the fallback or a refusal was seen"
    assert found.answers is not None
    assert found.answers.correct > 100


def test_recovery_of_the_embedded_engine(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "EMBEDDED_LIMIT", 60.0)  # the machine is busy with tests
    monkeypatch.setattr(recovery, "PIECE", 4.0)
    held(recovery.run(bundle, tmp_path, engines=("embedded",), deaths=1, rate=5.0))


def test_a_killed_batch(bundle: Path, tmp_path: Path) -> None:
    held(kills.run(bundle, tmp_path, kills=1))


def test_a_machine_too_fast_for_the_file_gets_a_longer_one(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kills, "ROWS_PER_KILL", 5)
    monkeypatch.setattr(kills, "LONGEST_LIFE", 0.0)
    looks: list[int] = []
    look = kills._look

    async def until_done(client: httpx.AsyncClient, job_id: str) -> BatchJob:
        """The first life is as long as its file needs."""
        looks.append(1)
        if len(looks) == 1:
            await kills._ended(client, job_id)
        return await look(client, job_id)

    monkeypatch.setattr(kills, "_look", until_done)
    found = held(kills.run(bundle, tmp_path, kills=1))
    rows = found.details["rows"]
    assert isinstance(rows, int)
    assert rows >= 20, "the first file, of ten rows, was done before the kill"


def test_a_file_that_no_life_is_short_enough_for(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def done(*_: object) -> None:
        return None

    monkeypatch.setattr(kills, "_killed", done)
    with pytest.raises(ServiceError, match="61,440 rows was done before the last of 1 kills"):
        asyncio.run(kills.run(bundle, tmp_path, kills=1))


def test_the_interface(bundle: Path, tmp_path: Path) -> None:
    found = held(interface.run(bundle, tmp_path, cases=300))
    assert found.details["operations"] == [12, 4], "both ports, whole"


def test_callers_who_leave(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellations, "PIECE", 3.0)
    held(cancellations.run(bundle, tmp_path, cancellations=10, rate=8.0))


def test_mixed_load(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too short to tell a slope: what is asked is answered, and every quantity is fitted."""
    always: Callable[[object], bool] = lambda _: True  # noqa: E731
    monkeypatch.setattr(mixed, "flat", always)
    found = held(mixed.run(bundle, tmp_path, minutes=0.4, rate=4.0))
    assert len(found.figures) == len(mixed.DAILY) + 1
    assert found.details["looks_at_console_and_admin"]


def test_a_batch_beside_online_requests(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few pairs to judge the ratio: what is asked is answered, with a file beside it, too."""
    monkeypatch.setattr(pairs, "CALLERS", 4)
    monkeypatch.setattr(pairs, "CALIBRATION_SECONDS", 2.0)
    monkeypatch.setattr(pairs, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(paired, "VISITORS", 12)
    monkeypatch.setattr(paired, "Options", partial(Options, samples=4))
    found = held(paired.run(bundle, tmp_path, seconds=3.0, pairs=1))
    ratio, honest = found.figures
    assert ratio.passed is None
    assert honest.passed
    assert found.answers is not None
    assert found.answers.correct == found.answers.accepted
    tried = found.details["pairs"]
    assert isinstance(tried, list)
    assert len(tried) == 1, "and a row of the file was scored, or there would be none"
