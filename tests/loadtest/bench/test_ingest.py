"""The benchmark's log is what it says, and both sides of it run."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from loadtest.bench import ingest as module
from loadtest.bench.document import Study
from loadtest.bench.ingest import Kind, ingest, write_log

APP = typer.Typer()
APP.command()(ingest)


def read(path: Path) -> pl.DataFrame:
    return pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)


def test_a_log_is_a_function_of_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SESSIONS_PER_SLICE", 100)
    kinds: tuple[Kind, ...] = ("csv", "parquet")
    for kind in kinds:
        write_log(tmp_path / f"log.{kind}", kind, 5_003, 1)
    log = read(tmp_path / "log.csv")
    assert log.height == 5_003
    assert log.equals(read(tmp_path / "log.parquet"))
    write_log(tmp_path / "again.csv", "csv", 5_003, 1)
    write_log(tmp_path / "other.csv", "csv", 5_003, 2)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "log.csv").read_bytes()
    assert (tmp_path / "other.csv").read_bytes() != (tmp_path / "log.csv").read_bytes()
    assert log["timestamp"].is_sorted()
    assert log["page_url"].n_unique() == log.height
    assert 5_003 // module.EVENTS_PER_VISITOR * 0.8 < log["client_id"].n_unique() <= 5_003 // module.EVENTS_PER_VISITOR


def test_both_sides_run_and_nothing_is_left(tmp_path: Path) -> None:
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    words = ["--events", "3000", "--pairs", "2", "--scratch", str(scratch), "--out", str(out), "--json"]
    done = CliRunner().invoke(APP, words, env={"HETLM_QUIET": "1"})
    assert done.exit_code == 0, done.output
    measured = Study.read(out / "ingest.json")
    assert (measured.kind, measured.conditions["logs"]) == ("bench-ingest", ("csv/3000",))
    assert [figure.key for figure in measured.figures] == ["speed/csv/3000", "cpu/csv/3000", "memory/csv/3000"]
    assert set(json.loads(done.stdout)["measured"]) == {figure.key for figure in measured.figures}
    assert "speed/csv/3000" in (out / "ingest.svg").read_text()
    (document,) = measured.details["logs"]
    assert (document["events"], document["kind"]) == (3_000, "csv")
    for side in ("ours", "peer"):
        assert len(document[side]["runs"]) == 2
        assert document[side]["memory"] == max(run["memory"] for run in document[side]["runs"]) > 50e6
        assert all(run["seconds"] > 0 and run["cpu"] > 0 for run in document[side]["runs"])
    ratios = [
        b["seconds"] / a["seconds"] for a, b in zip(document["ours"]["runs"], document["peer"]["runs"], strict=True)
    ]
    assert document["speed_ratio"]["least"] == pytest.approx(min(ratios))
    speed = measured.figures[0].value
    assert speed is not None
    assert (speed.least, speed.most) == pytest.approx((min(ratios), max(ratios)))
    assert list(scratch.iterdir()) == []


def test_each_length_with_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scripted(events: int, kind: Kind, pairs: int, *_: object) -> module.Found:
        took = module.Once(seconds=events / 1_000, cpu=1.0, memory=10**9)
        return module.Found(events, kind, 100, (took,) * pairs, (took,) * pairs)

    monkeypatch.setattr(module, "run", scripted)
    words = ["--events", "1000,2000", "--kind", "csv,parquet", "--out", str(tmp_path)]
    done = CliRunner().invoke(APP, words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    logs = ("csv/1000", "csv/2000", "parquet/1000", "parquet/2000")
    assert set(told["held"]) == {f"{what}/{log}" for what in ("speed", "cpu", "memory") for log in logs}
    assert told["held"]["speed/csv/1000"] is told["held"]["memory/csv/1000"] is True
    assert "2,000 events (parquet, 0.00 GB): 1.00 of the peer's speed" in done.stderr
    drawn = (tmp_path / "ingest.svg").read_text()
    assert all(f"speed/{log}" in drawn for log in logs)


def test_a_side_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PEER", "raise SystemExit('no room here')")
    words = ["--events", "2000", "--pairs", "1"]
    done = CliRunner().invoke(APP, [*words, "--scratch", str(tmp_path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "peer failed with code 1: no room here" in done.output
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    for arguments, told in (
        (["--scratch", str(tmp_path / "none")], "no such folder"),
        (["--events", "1000000000000"], "GB are free"),
        (["--events", "999"], "--events 999: numbers from 1000 on"),
        (["--kind", "xml"], "--kind xml: choose from csv, parquet"),
        (["--kind", "none"], "nothing is left to measure"),
    ):
        done = CliRunner().invoke(APP, arguments, env={"COLUMNS": "200"})
        assert done.exit_code == 2
        assert told in done.output
