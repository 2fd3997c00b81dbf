"""`hetlm timing` with the real encoder: the table, the file, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from browsing.encoders.sbert import SbertEncoder
from tests import tiny
from training.dataset import Dataset
from training.evaluation.timing.command import timing
from training.evaluation.timing.result import Timing


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("timing-command") / "shop"
    tiny.bundle(root, encoder=SbertEncoder())
    return root


def run(*arguments: str | Path) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(timing)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_table_and_file(real: Path, dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "timing.json"
    result = run(dataset.root, real, "--users", "4", "--rounds", "2", "--samples", "2", "--out", out)
    assert result.exit_code == 0, result.stderr
    written = Timing.model_validate_json(out.read_text())
    assert (written.users, written.rounds, written.samples) == (4, 2, 2)
    assert "Inference time" in result.stdout
    assert "shop (hetlm, 2 clusters)" in result.stdout
    assert f"{written.configurations[1].extrapolated_seconds:,.1f}" in result.stdout
    assert list(tmp_path.iterdir()) == [out]


def test_json_is_one_line(real: Path, dataset: Dataset) -> None:
    result = run(dataset.root, real, "--users", "2", "--rounds", "1", "--samples", "1", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    assert [own.kind for own in Timing.model_validate(json.loads(result.stdout)).configurations] == ["single", "bundle"]


def test_mistakes(real: Path, dataset: Dataset, tmp_path: Path) -> None:
    assert "is not a bundle" in run(dataset.root, tmp_path).stderr
    assert "no such directory" in run(tmp_path / "missing", real).stderr
    empty = run(dataset.root, real, "--split", "select")
    assert empty.exit_code == 2
    assert "nobody is in the split 'select'" in empty.stderr
    assert run(dataset.root, real, "--rounds", "0").exit_code == 2
    assert "does not exist" in run(dataset.root, real, "--out", tmp_path / "no" / "where").stderr
    assert "is a directory" in run(dataset.root, real, "--out", tmp_path).stderr
