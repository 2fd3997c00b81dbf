"""Every command ends alike: a document, a drawing, the table, and one line of JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from loadtest.bench import document
from loadtest.bench.ending import end, folder, study
from loadtest.bench.machine import Watch, flags
from loadtest.result import Machine
from tests.loadtest.bench.reports import figure


def test_what_is_told_is_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = study(
        "ingest",
        Watch.start(),
        [figure("a", (3.0, 3.0)), figure("b", (1.0,)), figure("c", ())],
        conditions={"logs": ("csv/10", "parquet/10"), "seed": 0},
        settings={"pairs": 2},
        details={"runs": [{"seconds": 1.5}]},
        packages=("numpy", "no-such-package"),
    )
    assert list(measured.versions) == ["numpy"]
    assert measured.machine.cores > 0
    assert measured.command.startswith("python -m loadtest.bench")
    for as_json in (False, True):
        end(measured, tmp_path, "ingest", as_json, above="over the table")
        shown = capsys.readouterr().out
        assert (shown.count("\n") == 1) is as_json
        assert shown.startswith("over the table\n\n| figure") is not as_json
        told = json.loads(shown.splitlines()[-1])
        assert told["report"] == str(tmp_path / "ingest.json")
        assert told["held"] == {"a": True, "b": False, "c": None}
        assert told["measured"] == pytest.approx({"a": 3.0, "b": 1.0})
    assert document.read(tmp_path / "ingest.json") == measured
    assert (tmp_path / "ingest.svg").is_file()


def test_a_busy_machine_is_named() -> None:
    assert flags(Machine(cores=2, load_before=0.9, load_after=2.0)) == []
    assert flags(Machine(cores=2, load_before=1.1, load_after=2.0)) == [
        "the machine was busy before: load average 1.10 on 2 cores"
    ]


def test_a_folder_that_cannot_be_made_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert folder(tmp_path / "a" / "b").is_dir()
    with pytest.raises(typer.Exit):
        folder(tmp_path / "file" / "b")
