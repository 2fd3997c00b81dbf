"""With six clusters an epoch of actor-critic fine-tuning costs at most three of the single model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from torch.utils.flop_counter import FlopCounterMode

from browsing.vocabulary import Vocabulary
from training.batches import Example
from training.hetlm.cost import epoch
from training.predictors import build
from training.presets import PRESETS
from training.settings import Method
from training.synthetic import visitors

VOCABULARY = Vocabulary([f"/page/{i}" for i in range(60)])


def operations(method: Method, clusters: int, train: list[Example], select: list[Example]) -> int:
    """Floating-point operations of one epoch's matrix products, forwards and backwards, validation included."""
    model = build(PRESETS["demo"], VOCABULARY, 128, seed=0)
    with FlopCounterMode(display=False) as counter:
        sizes = epoch(method, "demo", clusters, model, train, select).sizes
    assert len(sizes) == clusters
    return int(counter.get_total_flops())


def test_six_clusters_cost_at_most_three_epochs_of_the_single_model() -> None:
    people = visitors(len(VOCABULARY), 210, 0, 128)
    one = operations("single", 1, people[:200], people[200:])
    six = operations("hetlm", 6, people[:200], people[200:])
    assert 2.5 < six / one < 2.9  # (6 + 2) / 3, and five more predictors in the validation


@pytest.mark.parametrize("preset", ["demo", "none"])
def test_the_command(preset: str) -> None:
    command = [sys.executable, "-m", "training.hetlm.cost", "--preset", preset, "--users", "40", "--rounds", "1"]
    done = subprocess.run([*command, "--clusters", "2", "--json"], capture_output=True, text=True, check=False)
    if preset == "none":
        assert done.returncode == 2
        assert "unknown preset 'none'" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ratio"] == pytest.approx(report["actor_critic_seconds"] / report["single_seconds"])
    assert min(report["single_seconds"], report["actor_critic_seconds"], report["processor_ratio"]) > 0
    assert report["tokens"] > 40
