"""Losses by rule of assignment, of several bundles in one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from browsing.bundle import seal, verify
from tests import tiny
from tests.training.datasets import write
from training.dataset import DatasetInfo
from training.evaluation.tables.command import tables
from training.run import write_json
from training.training_log import TRAINING_LOG, TrainingLog

HETLM = {"random": 2.5, "kmeans": 2.25, "markov": 2.125, "selector": 2.0, "evidence": 2.0, "oracle": 1.5, "shared": 2.4}
MIXTURE = {**HETLM, "selector": 1.875, "oracle": 1.625}


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    return write(tmp_path_factory.mktemp("rules") / "shop", train=4, held=2).info


def bundle(root: Path, info: DatasetInfo, method: str, rules: dict[str, float], seed: int = 0) -> Path:
    manifest = tiny.bundle(root)
    records = [{"stage": "rules", "epoch": 0, "rules": rules}] if rules else []
    write_json(root / TRAINING_LOG, TrainingLog.of(records).model_dump(mode="json"))
    write_json(root / "dataset.json", info.model_dump(mode="json"))
    training = manifest.training.model_copy(update={"method": method, "seed": seed})
    metrics = {"validation_users": 1200.0, "validation_loss_single": 2.375}
    seal(root, manifest.model_copy(update={"training": training, "metrics": metrics}))
    return root


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(tables)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_both_methods_selectors_stand_in_one_table(tmp_path: Path, info: DatasetInfo) -> None:
    bundles = [bundle(tmp_path / m, info, m, r) for m, r in (("hetlm", HETLM), ("mixture", MIXTURE))]
    result = run(*bundles, "--format", "markdown")
    assert result.exit_code == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert lines[0].count("|") == 10
    hetlm, mixture = (next(line for line in lines if line.startswith(f"| {m} ")) for m in ("hetlm", "mixture"))
    assert hetlm.split("|")[2:-1] == [
        *(f" **{x}** " for x in ("2.500", "2.250", "2.125")),
        " 2.000 ",
        *(f" **{x}** " for x in ("2.000", "1.500", "2.400", "2.375")),
    ]
    assert " **1.875** " in mixture
    assert " 1.625 " in mixture
    assert "on 1,200 selection users" in result.stdout


def test_several_seeds_and_datasets_are_told_apart(tmp_path: Path, info: DatasetInfo) -> None:
    seeds = [bundle(tmp_path / f"seed{seed}", info, "hetlm", HETLM, seed) for seed in (0, 1)]
    text = run(*seeds, "--format", "markdown").stdout
    assert "| hetlm, seed 0 |" in text
    assert "| hetlm, seed 1 |" in text
    twice = run(seeds[0], seeds[0], "--format", "markdown").stdout
    assert f"| hetlm, seed 0, {verify(seeds[0]).version[:8]} |" in twice
    elsewhere = info.model_copy(update={"hashes": {"train.parquet": "0" * 64}})
    other = bundle(tmp_path / "other", elsewhere, "hetlm", HETLM)
    result = run(seeds[0], other, "--out", tmp_path / "tables.txt", "--json")
    titles = [f"Dataset {number}. Validation loss by rule of assignment" for number in (1, 2)]
    assert json.loads(result.stdout)["tables"] == titles


def test_what_has_no_rules_is_named(tmp_path: Path, info: DatasetInfo) -> None:
    empty = run(bundle(tmp_path / "empty", info, "hetlm", {}))
    assert empty.exit_code == 2
    assert "rule of assignment are not in it" in empty.stderr.replace("\n", " ")
    nothing = run(tmp_path)
    assert nothing.exit_code == 2
    assert "is not a bundle" in nothing.stderr.replace("\n", " ")
