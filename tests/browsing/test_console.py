from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from browsing.cli import build
from browsing.console import emit, fail, progress


def test_every_command_is_mounted_and_explains_itself() -> None:
    commands = ["simulate", "ingest", "train", "evaluate", "bundle", "serve", "visit"]
    overview = CliRunner().invoke(build(), ["--help"])
    assert overview.exit_code == 0
    for command in commands:
        assert command in overview.output
        assert CliRunner().invoke(build(), [command, "--help"]).exit_code == 0


def test_json_is_one_line_on_stdout_and_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"b": 1, "a": "x"}, as_json=False)
    emit({"b": 1, "a": "x"}, as_json=True)
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert json.loads(captured.out) == {"a": "x", "b": 1}
    assert captured.err == ""


def test_a_caller_s_mistake_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail("no such file: [bold]log.csv").exit_code == 2
    assert "no such file: [bold]log.csv" in capsys.readouterr().err, "a file's name is no markup"


@pytest.mark.parametrize(("unit", "total"), [("rows", 10), ("bytes", 10**9), ("iterations", None)])
def test_progress_takes_steps(unit: str, total: float | None) -> None:
    with progress("working", total, unit) as advance:
        advance(5)
        advance(5)
