"""`hetlm evaluate` with the real encoder: output, file, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from browsing.encoders.sbert import SbertEncoder
from browsing.hashing import file_sha256
from tests import tiny
from training.dataset import Dataset, Sample
from training.evaluation import command
from training.evaluation.command import evaluate
from training.evaluation.result import Evaluation


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle whose selector reads SBERT's embeddings."""
    root = tmp_path_factory.mktemp("command") / "bundle"
    tiny.bundle(root, encoder=SbertEncoder())
    return root


def run(*arguments: str | Path) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(evaluate)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_tables_and_file(real: Path, dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    result = run(real, dataset.root, "--samples", "2", "--users", "9", "--decode", "greedy", "--out", out)
    assert result.exit_code == 0, result.stderr
    written = Evaluation.model_validate_json(out.read_text())
    assert written.combined.n == 9
    assert written.settings.decode == "greedy"
    assert "Combined" in result.stdout
    assert f"{written.combined.pages.iou:.3f}" in result.stdout
    assert sorted(tmp_path.iterdir()) == [out, tmp_path / "result.users.parquet"]
    assert written.users_sha256 == file_sha256(tmp_path / "result.users.parquet")
    assert "greedy" not in written.combined.others
    assert written.combined.intervals["pages.iou"][0] <= written.combined.pages.iou


def test_json_is_one_line_and_nothing_else(real: Path, dataset: Dataset) -> None:
    result = run(real, dataset.root, "--samples", "2", "--users", "5", "--model", "fallback", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    document = Evaluation.model_validate(json.loads(result.stdout))
    assert document.method == "fallback"
    assert document.combined.n == 5


def test_an_unknown_model_is_a_mistake_that_lists_the_known(real: Path, dataset: Dataset) -> None:
    result = run(real, dataset.root, "--model", "other")
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert "no model 'other': it is one of bundle, shared, fallback, " in message
    assert "popularity" in message


def test_a_missing_extra_is_found_before_hours_of_work(
    real: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    result = run(real, dataset.root, "--bert-score")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "pip install 'hetlm[bertscore]'" in " ".join(result.stderr.split())


@pytest.mark.parametrize("folder", ["missing", ""])
def test_what_is_no_bundle_is_a_mistake(folder: str, dataset: Dataset, tmp_path: Path) -> None:
    result = run(tmp_path / folder, dataset.root)
    assert result.exit_code == 2
    assert "is not a bundle" in result.stderr
    assert result.stdout == ""


def test_what_is_no_dataset_is_a_mistake(real: Path, tmp_path: Path) -> None:
    result = run(real, tmp_path / "missing")
    assert result.exit_code == 2
    assert "no such directory" in result.stderr


def test_an_empty_split_is_a_mistake(real: Path, dataset: Dataset) -> None:
    result = run(real, dataset.root, "--split", "calibrate")
    assert result.exit_code == 2
    assert "nobody is in the split 'calibrate'" in result.stderr.replace("\n", " ")


def test_a_bundle_of_another_encoder_is_a_mistake(dataset: Dataset, tmp_path: Path) -> None:
    tiny.bundle(tmp_path / "bundle")
    result = run(tmp_path / "bundle", dataset.root)
    assert result.exit_code == 2
    assert "trained with the encoder tiny" in " ".join(result.stderr.split())


def test_an_output_that_cannot_be_written_is_found_first(real: Path, dataset: Dataset, tmp_path: Path) -> None:
    missing = run(real, dataset.root, "--out", tmp_path / "nowhere" / "result.json")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "does not exist" in missing.stderr
    folder = run(real, dataset.root, "--out", tmp_path)
    assert folder.exit_code == 2
    assert "is a directory" in folder.stderr


@pytest.mark.parametrize(
    "option", [("--users", "0"), ("--samples", "0"), ("--seed", "-1"), ("--decode", "best"), ("--resamples", "-1")]
)
def test_options_out_of_range_are_mistakes(
    option: tuple[str, str], real: Path, dataset: Dataset, people: list[Sample]
) -> None:
    assert run(real, dataset.root, *option).exit_code == 2
