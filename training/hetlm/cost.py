"""What an epoch of actor-critic fine-tuning costs: `python -m training.hetlm.cost`.

Both epochs are measured side by side on synthetic visitors, in turns, so that a busy machine slows down both. On paper
the ratio is (K + 2) / 3: a row's own predictor learns from it (one forward pass, and a backward pass as dear as two),
and the K - 1 others only score it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn

from browsing.console import STDERR, emit, fail
from browsing.selector import Selector
from browsing.vocabulary import Vocabulary
from training.batches import Example
from training.hetlm.loop import STAGE, Users, tune
from training.predictors import build, parameters
from training.presets import PRESETS
from training.run import Run
from training.settings import Method, settings_of
from training.synthetic import visitors

DIMENSION = 384


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch with its validation: seconds by the clock and of the processor, and the sizes of the clusters."""

    seconds: float
    processor: float
    sizes: list[int]


def epoch(
    method: Method, preset: str, clusters: int, model: nn.Module, train: Sequence[Example], select: Sequence[Example]
) -> Epoch:
    """Fine-tune copies of `model` for one epoch with a random selector, under which all clusters have users."""
    context = max(len(e.ids) for e in [*train, *select])
    settings = settings_of(preset, method=method, clusters=clusters, tune_epochs=1, context=max(context, 24))
    generator = np.random.default_rng(0)
    z = generator.normal(size=(len(train) + len(select), DIMENSION)).astype(np.float32)
    torch.manual_seed(0)
    selector = Selector(DIMENSION, settings.kinds)
    with torch.no_grad():
        selector.output.weight.mul_(10)  # its biases alone would leave clusters empty
    users = Users(train, z[: len(train)], np.zeros(len(train), np.int64))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), settings)
        began = time.process_time()
        tune(selector, model, users, Users(select, z[len(train) :]), run, lambda stage, epoch: None)
        processor = time.process_time() - began
        record = run.records(STAGE)[0]
    return Epoch(record["seconds"], processor, record["sizes"])


def main(
    preset: Annotated[str, typer.Option(help=f"The predictors: {', '.join(PRESETS)}.")] = "small",
    clusters: Annotated[int, typer.Option(min=2, help="K.")] = 6,
    users: Annotated[int, typer.Option(min=1, help="Training users; a twentieth as many validate.")] = 1_000,
    pages: Annotated[int, typer.Option(min=2, help="Pages in the vocabulary.")] = 500,
    context: Annotated[int, typer.Option(min=24, help="Most tokens of a user.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions; their medians are reported.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout.")] = False,
) -> None:
    """Measure an epoch of actor-critic fine-tuning against one of fine-tuning the single model."""
    if preset not in PRESETS:
        raise fail(f"unknown preset {preset!r}: it is one of {', '.join(PRESETS)}")
    if threads is not None:
        torch.set_num_threads(threads)
    vocabulary = Vocabulary([f"/page/{i}" for i in range(pages)])
    people = visitors(len(vocabulary), users + max(users // 20, 1), 0, context)
    model = build(PRESETS[preset], vocabulary, context, seed=0)
    epoch("single", preset, 1, model, people[:8], people[:1])  # the first epoch of a process is slower
    pairs = []
    for number in range(rounds):
        one = epoch("single", preset, 1, model, people[:users], people[users:])
        many = epoch("hetlm", preset, clusters, model, people[:users], people[users:])
        pairs.append((one, many))
        STDERR.print(f"round {number + 1}: {one.seconds:.1f} s and {many.seconds:.1f} s, clusters of {many.sizes}")
    report = {
        "preset": preset,
        "parameters": parameters(model),
        "clusters": clusters,
        "users": users,
        "tokens": sum(len(e.ids) for e in people[:users]),
        "threads": torch.get_num_threads(),
        "single_seconds": statistics.median(one.seconds for one, _ in pairs),
        "actor_critic_seconds": statistics.median(many.seconds for _, many in pairs),
        "ratio": statistics.median(many.seconds / one.seconds for one, many in pairs),
        "processor_ratio": statistics.median(many.processor / one.processor for one, many in pairs),
    }
    STDERR.print(f"an epoch with {clusters} clusters costs {report['ratio']:.2f} epochs of the single model")
    emit(report, as_json)


if __name__ == "__main__":
    typer.run(main)
