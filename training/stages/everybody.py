"""Models of everybody: the mixture of Markov chains, the pretrained predictor, the single one fine-tuned from it."""

from __future__ import annotations

import dataclasses
import os
import shutil

import numpy as np
import torch
from torch import nn

from browsing.console import STDERR, progress
from browsing.markov import MarkovMixture
from browsing.selector import Selector
from training.batches import seed_of
from training.data import Data
from training.enlarging import enlarged
from training.hardware import Hardware
from training.hetlm.keeping import SHARED, Version
from training.hetlm.loop import STAGE as TUNE
from training.hetlm.loop import Users, tune
from training.predictors import build, load_weights, save_predictor
from training.presets import PRESETS
from training.pretrain import AfterEpoch, Pretrained, pretrain
from training.run import Run, write_json
from training.settings import Settings
from training.starts import likeliest_clusters, token_sessions
from training.warm import warm_start

EM_RESTARTS = 3
EM_ITERATIONS = 50
SINGLE = "single"


def markov_mixture(data: Data, run: Run, settings: Settings) -> MarkovMixture:
    """Fitted on the training users' histories and next sessions: the control, the fallback, and a start."""
    folder, done = run.root / "markov", run.root / "markov.json"
    if done.exists():
        return MarkovMixture.load(folder)
    people = [data.train.samples[row] for row in data.train.cover]
    users = token_sessions(people, data.vocabulary)
    seed = seed_of(settings.seed, "markov")
    clusters = min(settings.clusters, len(users))
    if settings.choose_clusters and settings.start == "markov":
        clusters = likeliest_clusters(people, data.select.samples, data.vocabulary, clusters, seed)
        STDERR.print(f"Markov mixture: {clusters} components explain the selection users best")
    with progress("Markov mixture", None, "iterations") as advance:
        mixture = MarkovMixture.fit(
            users,
            len(data.vocabulary),
            clusters,
            seed=seed % 2**32,
            iterations=EM_ITERATIONS,
            restarts=EM_RESTARTS,
            report=lambda iteration, loss: advance(1),
        )
    folder.mkdir(exist_ok=True)
    mixture.save(folder)
    write_json(done, {"components": mixture.components})
    return mixture


def new_predictor(data: Data, settings: Settings, device: torch.device) -> nn.Module:
    """The preset's predictor before it has seen anything, or the checkpoint's."""
    preset = enlarged(PRESETS[settings.preset], len(data.vocabulary), settings.context, settings.times)
    seed = seed_of(settings.seed, "weights")
    return build(preset, data.vocabulary, settings.context, seed, settings.checkpoint).to(device)


def pretrained_predictor(
    model: nn.Module, data: Data, run: Run, after_epoch: AfterEpoch, hardware: Hardware
) -> Pretrained:
    """Warm start and pretraining, in the directory that runs share; their records are copied into the run's log.

    `model` is left with the pretrained weights, which `shared/` there holds too.
    """
    pretraining = Run(run.pretraining, run.settings)
    if run.settings.warm_start == "synthetic" and pretraining.load("pretrain") is None:
        warm_start(
            model, len(data.vocabulary), data.train.once, data.select.examples, pretraining, after_epoch, hardware
        )
    pretrained = pretrain(model, data.train.once, data.select.examples, pretraining, after_epoch, hardware)
    for record in pretraining.records():
        if record["stage"] in ("warm", "warm choice", "pretrain"):
            run.log(record)
    shared = run.pretraining / "shared"
    if not shared.exists():  # other runs may be reading it
        partial = shared.with_name(f"shared.partial-{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        save_predictor(model, pretrained.weights, data.vocabulary, partial)
        partial.rename(shared)
    load_weights(model, pretrained.weights)
    return pretrained


def single_predictor(model: nn.Module, data: Data, run: Run, after_epoch: AfterEpoch, hardware: Hardware) -> Version:
    """The predictor fine-tuned on everybody for as many tokens as all clusters' together."""
    nested = Run(run.single, run.settings.single())
    nothing = [np.zeros((len(split.examples), 1), np.float32) for split in (data.train, data.select)]
    start = np.zeros(len(data.train.examples), np.int64)
    train = Users(data.train.examples, nothing[0], start)
    held = Users(data.select.examples, nothing[1])
    stage = TUNE if run.settings.method == SINGLE else SINGLE
    selector = Selector(1, 1).train()
    tuned = tune(selector, model, train, held, nested, lambda _, epoch: after_epoch(stage, epoch), hardware)
    for record in nested.records(TUNE):
        run.log({**record, "stage": stage})
    version = tuned.system.versions[0]
    return dataclasses.replace(version, name=SHARED if version.name == SHARED else SINGLE)
