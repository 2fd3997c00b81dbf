"""The benchmark's log is what it says, and both sides of it run."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from loadtest.bench import ingest as module
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
    done = CliRunner().invoke(
        APP, ["--events", "3000", "--pairs", "2", "--scratch", str(tmp_path), "--json"], env={"HETLM_QUIET": "1"}
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["bench"], document["events"], document["kind"]) == ("ingest", 3_000, "csv")
    for side in ("ours", "peer"):
        assert len(document[side]["runs"]) == 2
        assert document[side]["memory"] == max(run["memory"] for run in document[side]["runs"]) > 50e6
        assert all(run["seconds"] > 0 and run["cpu"] > 0 for run in document[side]["runs"])
    ratios = [
        b["seconds"] / a["seconds"] for a, b in zip(document["ours"]["runs"], document["peer"]["runs"], strict=True)
    ]
    assert document["speed_ratio"]["least"] == pytest.approx(min(ratios))
    assert list(tmp_path.iterdir()) == []


def test_a_side_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PEER", "raise SystemExit('no room here')")
    done = CliRunner().invoke(APP, ["--events", "2000", "--pairs", "1", "--scratch", str(tmp_path)])
    assert done.exit_code == 2
    assert "peer failed with code 1: no room here" in done.output
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_room(tmp_path: Path) -> None:
    for arguments, told in (
        (["--scratch", str(tmp_path / "none")], "no such folder"),
        (["--events", "1000000000000"], "GB are free"),
    ):
        done = CliRunner().invoke(APP, arguments, env={"COLUMNS": "200"})
        assert done.exit_code == 2
        assert told in done.output
