"""A small pretraining, also as a program for several processes: `accelerate launch -m tests.training.spread FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from browsing.vocabulary import Vocabulary
from training.batches import Example
from training.hardware import Hardware
from training.predictors import Weights, build, weights_of
from training.presets import PRESETS
from training.pretrain import Pretrained, pretrain
from training.run import Run
from training.settings import settings_of
from training.synthetic import visitors

VOCABULARY = Vocabulary([f"/p{i}" for i in range(12)])


@dataclass(frozen=True, slots=True)
class Model:
    """A demo predictor, drawn from a seed."""

    seed: int = 0

    @property
    def model(self) -> nn.Module:
        return build(PRESETS["demo"], VOCABULARY, 64, self.seed)

    @property
    def weights(self) -> Weights:
        return weights_of(self.model)


def people() -> tuple[list[Example], list[Example]]:
    """Training and selection users: 71 do not fill whole batches."""
    users = visitors(len(VOCABULARY), 80, 0, 64)
    return users[:71], users[71:]


def open_run(root: Path, **given: object) -> Run:
    fixed = {"epochs": 2, "context": 64, "batch_size": 16, "warm_start": "none", "learning_rate": 1e-3, "dropout": 0.0}
    return Run(root, settings_of("demo", **{**fixed, **given}))  # type: ignore[arg-type]


def fit(run: Run, hardware: Hardware | None = None, seed: int = 0) -> Pretrained:
    return pretrain(Model(seed).model, *people(), run, lambda stage, epoch: None, hardware)


def main(folder: Path) -> None:
    hardware = Hardware(torch.device("cpu"))
    best = fit(open_run(folder / "run"), hardware, seed=hardware.rank)
    save_file(best.weights, folder / f"process-{hardware.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
