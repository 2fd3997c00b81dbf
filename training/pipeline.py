"""Training from a dataset to weights, stage by stage (HeTLM, section 4.6): embeddings, Markov mixture, start,
pretraining, actor-critic fine-tuning. Every stage goes on from what the run's directory holds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

from browsing.console import progress
from browsing.encoder import Encoder, Vectors
from browsing.markov import MarkovMixture
from browsing.selector import Selector
from browsing.vocabulary import Vocabulary
from training.batches import Example, examples, seed_of
from training.dataset import Dataset, Sample
from training.embeddings import embed
from training.evaluation.loss import markov_nats
from training.hetlm.loop import Tuned, Users, tune
from training.predictors import build
from training.presets import PRESETS
from training.pretrain import AfterEpoch, Pretrained, per_page, pretrain
from training.run import Run, locked, write_json
from training.settings import Settings
from training.starts import SELECTOR_EPOCHS, Assignment, copy_start, kmeans_start, markov_start, token_sessions

EM_RESTARTS = 3
EM_ITERATIONS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    samples: list[Sample]
    examples: list[Example]
    z: Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A dataset, read, tokenised and embedded."""

    dataset: Dataset
    vocabulary: Vocabulary
    outcomes: dict[str, tuple[str, ...]]
    train: Split
    select: Split
    calibrate: Split


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Everything that a bundle is written from. `model` holds the architecture; its weights change hands."""

    data: Data
    mixture: MarkovMixture
    model: nn.Module
    pretrained: Pretrained
    tuned: Tuned
    losses: dict[str, float]
    seconds: dict[str, float]


def run_data(dataset: Dataset, encoder: Encoder) -> dict[str, str]:
    """What, besides the settings, names a run."""
    return {**dataset.info.hashes, "encoder": encoder.weights_sha256, "encoder tokenizer": encoder.tokenizer_sha256}


def train_bundle_parts(
    dataset: Dataset,
    encoder: Encoder,
    run: Run,
    device: torch.device,
    after_epoch: AfterEpoch = lambda stage, epoch: None,
) -> Trained:
    """All stages. Raises `ValueError` where the data or the settings do not allow one."""
    settings = run.settings
    clock = _Clock()
    with clock("embeddings"), locked(run.shared):
        data = _read(dataset, encoder, run, settings)
    with clock("markov"):
        mixture = _mixture(data, run, settings)
    with clock("start"):
        selector, labels = _start(data, mixture, run, settings)
    with clock("pretrain"), locked(run.pretraining):
        seed = seed_of(settings.seed, "weights")
        preset = PRESETS[settings.preset]
        model = build(preset, data.vocabulary, settings.context, seed, settings.checkpoint).to(device)
        pretraining = Run(run.pretraining, settings)
        pretrained = pretrain(model, data.train.examples, data.select.examples, pretraining, after_epoch)
        for record in pretraining.records("pretrain"):
            run.log(record)
    with clock("tune"):
        train = Users(data.train.examples, data.train.z, labels)
        tuned = tune(selector, model, train, Users(data.select.examples, data.select.z), run, after_epoch)
    losses = {
        "shared": tuned.shared_loss,
        "kept": tuned.system.loss,
        "markov": per_page(*markov_nats(mixture, [e.pair for e in data.select.examples], lambda n: None)),
    }
    known = {name: loss for name, loss in losses.items() if np.isfinite(loss) and data.select.samples}
    return Trained(data, mixture, model, pretrained, tuned, known, clock.seconds)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - began, 2)


def _read(dataset: Dataset, encoder: Encoder, run: Run, settings: Settings) -> Data:
    vocabulary = dataset.vocabulary()
    groups = [dataset.samples("train"), dataset.samples("select"), dataset.samples("calibrate")]
    if not groups[0]:
        raise ValueError(f"{dataset.root}: no training sample; take a longer log, or fewer held-out users")
    vectors = embed(groups, encoder, run.shared / "embeddings")
    splits = [
        Split(samples, examples(samples, vocabulary, settings.context, settings.max_steps), z)
        for samples, z in zip(groups, vectors, strict=True)
    ]
    return Data(dataset, vocabulary, dataset.outcomes(), *splits)


def _mixture(data: Data, run: Run, settings: Settings) -> MarkovMixture:
    """Fitted on the training users' histories and next sessions: the control, the fallback, and a start."""
    folder, done = run.root / "markov", run.root / "markov.json"
    if done.exists():
        return MarkovMixture.load(folder)
    users = token_sessions(data.train.samples, data.vocabulary)
    with progress("Markov mixture", None, "iterations") as advance:
        mixture = MarkovMixture.fit(
            users,
            len(data.vocabulary),
            min(settings.clusters, len(users)),
            seed=seed_of(settings.seed, "markov") % 2**32,
            iterations=EM_ITERATIONS,
            restarts=EM_RESTARTS,
            report=lambda iteration, loss: advance(1),
        )
    folder.mkdir(exist_ok=True)
    mixture.save(folder)
    write_json(done, {"components": mixture.components})
    return mixture


def _start(data: Data, mixture: MarkovMixture, run: Run, settings: Settings) -> tuple[Selector, NDArray[np.int64]]:
    """The pretrained selector and the training users' clusters at the start, int64 [N]."""
    folder, done = run.root / "start", run.root / "start.json"
    if not done.exists():
        assignment = _assignment(data, mixture, settings)
        with progress("selector copies the start", SELECTOR_EPOCHS, "epochs") as advance:
            selector = copy_start(
                data.train.z,
                data.select.z,
                assignment,
                seed=settings.seed,
                temperature=settings.temperature,
                smoothing=settings.smoothing,
                advance=advance,
            )
        folder.mkdir(exist_ok=True)
        selector.save(folder / "selector.safetensors")
        labels = assignment.train.argmax(1)
        save_file({"train": labels}, folder / "clusters.safetensors")
        sizes = np.bincount(labels, minlength=selector.clusters).tolist()
        copies = selector.probabilities(torch.from_numpy(data.train.z)).argmax(1).numpy()
        write_json(done, {"sizes": sizes, "copied": float((copies == labels).mean())})
    note = json.loads(done.read_text())
    run.log({"stage": "start", "epoch": 0, "start": settings.start, **note})
    started: NDArray[np.int64] = load_file(folder / "clusters.safetensors")["train"]
    return Selector.load(folder / "selector.safetensors").train(), started


def _assignment(data: Data, mixture: MarkovMixture, settings: Settings) -> Assignment:
    if settings.kinds == 1:
        return Assignment(np.ones((len(data.train.z), 1), np.float32), np.ones((len(data.select.z), 1), np.float32))
    if settings.start == "markov":
        return markov_start(mixture, data.train.samples, data.select.samples, data.vocabulary)
    return kmeans_start(data.train.z, data.select.z, settings.kinds, seed_of(settings.seed, "kmeans"))
