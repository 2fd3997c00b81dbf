"""Accumulation, loss scaling, precision and processes change how training computes, not what it finds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from tests.training.spread import Model, fit, open_run, people
from training.hardware import Hardware
from training.predictors import Weights
from training.pretrain import pretrain

CPU = torch.device("cpu")


@pytest.fixture
def afresh() -> Iterator[None]:
    """accelerate keeps one precision per process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def distance(one: Weights, other: Weights) -> float:
    assert one.keys() == other.keys()
    return max(float((one[n] - other[n]).abs().max()) for n in one)


def test_four_batches_of_eight_are_one_of_thirty_two(tmp_path: Path) -> None:
    whole = fit(open_run(tmp_path / "whole", batch_size=32))
    parts = fit(open_run(tmp_path / "parts", batch_size=8, accumulate=4))
    assert distance(whole.weights, Model().weights) > 1e-3  # it did learn
    assert distance(whole.weights, parts.weights) < 1e-5
    assert whole.loss == pytest.approx(parts.loss, abs=1e-5)


def test_an_interrupted_accumulating_run_ends_alike(tmp_path: Path) -> None:
    whole = fit(open_run(tmp_path / "whole", batch_size=8, accumulate=4))
    broken = open_run(tmp_path / "broken", batch_size=8, accumulate=4)

    def stop(stage: str, epoch: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(Model().model, *people(), broken, stop)
    assert distance(fit(broken).weights, whole.weights) == 0


def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    """torchrun starts them, as `accelerate launch` does on several GPUs. The second begins with other weights."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    module = ["--nproc-per-node", "2", "-m", "tests.training.spread", str(tmp_path / "two")]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *module], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    both = [load_file(tmp_path / "two" / f"process-{rank}.safetensors") for rank in range(2)]
    one = fit(open_run(tmp_path / "one"))
    assert distance(*both) == 0
    assert distance(one.weights, both[0]) < 1e-5
    written = open_run(tmp_path / "two" / "run").records("pretrain")
    alone = open_run(tmp_path / "one").records("pretrain")
    assert [r["tokens"] for r in written] == [r["tokens"] for r in alone]
    for key in ("train_loss", "validation_loss"):
        assert [r[key] for r in written] == pytest.approx([r[key] for r in alone], abs=1e-5)


def test_a_limited_epoch_stops_after_so_many_steps(tmp_path: Path) -> None:
    run = open_run(tmp_path, limit_batches=2)
    fit(run)
    whole = sum(len(e.ids) for e in people()[0])
    assert all(0 < r["tokens"] < whole / 2 for r in run.records("pretrain"))


def test_loss_scaling_changes_nothing_but_skips_an_overflow(tmp_path: Path) -> None:
    """What fp16 adds, run on the CPU in float32, where multiplying by a power of two is exact."""
    scaled = Hardware(CPU)
    scaled.accelerator.scaler = torch.amp.GradScaler("cpu")
    plain = fit(open_run(tmp_path / "plain"))
    run = open_run(tmp_path / "scaled")
    assert distance(plain.weights, fit(run, scaled).weights) == 0
    state = run.load("pretrain")
    assert state is not None
    assert state.document["hardware"] == scaled.document() != {}

    layer = torch.nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    scale = scaled.document()["scale"]
    scaled.backward(layer(torch.tensor([[1.0, float("inf")]])).sum())
    scaled.step(optimizer, layer, 1.0)
    assert torch.equal(layer.weight, before)
    assert layer.weight.grad is None
    assert scaled.document()["scale"] == scale / 2
    restored = Hardware(CPU)
    restored.accelerator.scaler = torch.amp.GradScaler("cpu")
    restored.restore(scaled.document())
    assert restored.document()["scale"] == scale / 2


@pytest.mark.usefixtures("afresh")
def test_half_precision_ends_near_full_precision(tmp_path: Path) -> None:
    full = fit(open_run(tmp_path / "full"))
    AcceleratorState._reset_state(reset_partial_state=True)
    half = fit(open_run(tmp_path / "half", precision="bf16"))
    assert all(w.dtype == torch.float32 for w in half.weights.values())
    assert distance(full.weights, half.weights) > 0
    assert half.loss == pytest.approx(full.loss, abs=0.05)


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match="--precision fp16 needs a GPU"):
        Hardware(CPU, "fp16")
