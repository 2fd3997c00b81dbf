"""Two steps of every full-size preset with two clusters, from a dataset to a bundle.

`make test` trains them at full width with two of their layers: what can go wrong with a family (shapes, tied or
projected embeddings, saving, serving) goes wrong there too, in a hundredth of the memory. `make smoke` trains the
presets as they are, one at a time: 300 to 360 million parameters, of which two clusters need about 16 GB.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny import TinyEncoder
from tests.training.datasets import write
from training.pipeline import run_data, train_bundle_parts
from training.predictors import architecture, parameters
from training.presets import PRESETS
from training.run import Run
from training.settings import settings_of

FULL = {"opt-350m": 303_937_536, "qwen2.5-0.5b": 357_991_296, "smollm2-360m": 314_735_040}
"""Parameters without the original word embeddings, with 100 pages and a context of 512."""


@pytest.mark.parametrize("name", sorted(FULL))
def test_two_steps_at_full_width(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = PRESETS[name]
    with torch.device("meta"):
        assert parameters(architecture(preset, 104, 512)) == FULL[name]
    monkeypatch.setitem(PRESETS, name, replace(preset, sizes={**preset.sizes, "num_hidden_layers": 2}))
    dataset = write(tmp_path / "shop", train=16, held=4)
    settings = settings_of(
        name,
        method="hetlm",
        clusters=2,
        limit_batches=2,
        warm_start="none",
        interpolate=False,
        epochs=1,
        tune_epochs=1,
        batch_size=2,
        tune_batch_size=4,
        context=64,
        max_steps=8,
    )
    assert settings.accumulate == 4
    run = Run.open(tmp_path / "runs", settings, run_data(dataset, TinyEncoder()))
    trained = train_bundle_parts(dataset, TinyEncoder(), run, torch.device("cpu"))
    assert run.records("pretrain")[0]["tokens"] > 0
    assert sum(run.records("tune")[0]["sizes"]) == 16
    assert len(trained.tuned.system.versions) == 2


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(FULL))
def test_two_steps_of_the_whole_preset(name: str, tmp_path: Path) -> None:
    """The command itself, in its own process: its memory is given back before the next preset's turn."""
    write(tmp_path / "shop", train=16, held=4)
    command = [sys.executable, "-m", "browsing", "train", str(tmp_path / "shop"), "--out", str(tmp_path / "bundle")]
    size = ["--preset", name, "--method", "hetlm", "--clusters", "2", "--limit-batches", "2", "--epochs", "1"]
    rest = ["--tune-epochs", "1", "--batch-size", "2", "--tune-batch-size", "4", "--context", "64", "--max-steps", "8"]
    plain = ["--warm-start", "none", "--no-interpolate", "--runs", str(tmp_path / "runs"), "--json"]
    done = subprocess.run([*command, *size, *rest, *plain], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["clusters"] == 2
    assert document["parameters"] > 0.99 * FULL[name] - 512 * 1024
