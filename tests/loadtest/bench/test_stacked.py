"""The comparison of one stacked engine with one per cluster: its turns, its ratios, and whose memory counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from loadtest.bench import stacked
from loadtest.bench.answering import OurService
from loadtest.bench.commands import app
from loadtest.bench.document import Study
from loadtest.bench.errors import BenchError
from loadtest.bench.stacked import ENGINES, SEPARATE, STACKED, Found, Measured, engine_memory, run, table
from loadtest.bench.subject import Played
from loadtest.bench.workload import Workload
from tests import tiny

RATES = {STACKED: (8.0, 9.0, 10.0), SEPARATE: (4.0, 3.0, 5.0)}
START = {STACKED: 30.0, SEPARATE: 120.0}
MEMORY = {STACKED: 2, SEPARATE: 8}


class Scripted:
    """A service that answers at known rates. `log`: every turn of all, in order."""

    def __init__(self, name: str, log: list[tuple[str, range, int]], broken: bool) -> None:
        self.name = name
        self.pid = ENGINES.index(name)
        self.stopped = False
        self._log = log
        self._broken = broken
        self._rates = iter((1.0, *RATES[name]))

    async def play(self, numbers: range, concurrency: int) -> Played:
        self._log.append((self.name, numbers, concurrency))
        if self._broken:
            raise BenchError("an answer is wrong")
        return Played(len(numbers) / next(self._rates), (0.1,) * len(numbers), {"one": 3.0, "other": 1.0})

    async def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    tiny.bundle(tmp_path / "bundle", clusters=2)
    return tmp_path / "bundle"


def play(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, broken: Sequence[str] = ()
) -> tuple[Found | None, list[tuple[str, range, int]], list[Scripted]]:
    log: list[tuple[str, range, int]] = []
    services: list[Scripted] = []

    async def started(engine: str, *_: object) -> Measured:
        services.append(Scripted(engine, log, engine in broken))
        return Measured(cast(OurService, services[-1]), START[engine])

    monkeypatch.setattr(stacked, "_started", started)
    monkeypatch.setattr(stacked, "engine_memory", lambda pid: MEMORY[ENGINES[pid]])
    visitor = {"sessions": [["/bags"]], "started_at": ["2026-01-01T00:00:00Z"]}
    workload = Workload.model_validate({"source": "walks", "visitors": [visitor] * 5})
    try:
        found = asyncio.run(run(bundle, workload, bundle.parent, rounds=3, requests=10, concurrency=4))
    except BenchError:
        return None, log, services
    return found, log, services


def test_ratios_are_of_neighbouring_turns(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, log, services = play(bundle, monkeypatch)
    assert found is not None
    assert [(name, numbers.start, len(numbers)) for name, numbers, _ in log] == [
        *((name, 0, 5) for name in (STACKED, SEPARATE)),
        *((name, 5, 10) for name in (SEPARATE, STACKED)),
        *((name, 15, 10) for name in (STACKED, SEPARATE)),
        *((name, 25, 10) for name in (SEPARATE, STACKED)),
    ]
    assert [concurrency for *_, concurrency in log] == [1, 1, 4, 4, 4, 4, 4, 4]  # first, embeddings are cached
    assert (found.clusters, found.throughput.n, found.throughput.median) == (2, 3, 2.0)
    assert (found.throughput.least, found.throughput.most) == (2.0, 3.0)
    assert (found.memory, found.start) == (0.25, 0.25)
    assert found.sides[STACKED].rates == pytest.approx(RATES[STACKED])
    assert found.sides[SEPARATE].cpu == pytest.approx((0.4,) * 3)
    assert all(service.stopped for service in services)
    document = json.loads(json.dumps(found.document()))
    assert document["throughput_ratio"]["median"] == 2.0
    figures = {figure.key: figure for figure in found.figures()}
    assert {key: figure.held for key, figure in figures.items()} == {
        "throughput": True,
        "memory": False,
        "start": False,
    }
    assert [str(figure.value) for figure in figures.values()][1:] == ["0.25 [0.25, 0.25]"] * 2
    assert "vllm-stacked" in table(found)
    assert "throughput 2 " in table(found)


def test_a_wrong_answer_ends_it_and_both_services(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, log, services = play(bundle, monkeypatch, broken=[SEPARATE])
    assert found is None
    assert len(log) == 2
    assert [service.stopped for service in services] == [True, True]


def test_the_services_own_process_is_left_out(tmp_path: Path) -> None:
    for process, children in ((10, "11 12"), (11, "13"), (12, ""), (13, "")):
        folder = tmp_path / str(process)
        (folder / "task" / str(process)).mkdir(parents=True)
        (folder / "task" / str(process) / "children").write_text(children)
        if process != 12:  # has ended meanwhile
            (folder / "smaps_rollup").write_text(f"00-ff ---p 0 0:0 0 [rollup]\nRss: 999 kB\nPss: {process} kB\n")
    assert engine_memory(10, tmp_path) == (11 + 13) * 1024


def test_the_command_writes_its_document(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, *_ = play(bundle, monkeypatch)
    visitor = {"sessions": [["/bags"]], "started_at": ["2026-01-01T00:00:00Z"]}
    asked = Workload.model_validate({"source": "walks", "visitors": [visitor]})

    async def scripted(*_: object, **__: object) -> Found | None:
        return found

    monkeypatch.setattr(stacked, "made", lambda *_, **__: (bundle, asked))
    monkeypatch.setattr(stacked, "run", scripted)
    out = bundle.parent / "out"
    shown = CliRunner().invoke(app, ["stacked", "--out", str(out), "--rounds", "3", "--clusters", "2"])
    assert shown.exit_code == 0, shown.output
    measured = Study.read(out / "stacked.json")
    assert (measured.kind, measured.settings) == ("bench-stacked", {"rounds": 3})
    assert measured.conditions["workload_sha256"] == asked.sha256
    assert "CPU s/request" in shown.stdout
    assert json.loads(shown.stdout.splitlines()[-1])["measured"]["throughput"] == 2.0
    assert "throughput" in (out / "stacked.svg").read_text()
