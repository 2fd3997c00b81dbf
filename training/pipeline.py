"""Training from a dataset to weights, stage by stage (HeTLM, section 4.6). Every stage goes on from what the run's
directory holds.

Markov mixture, warm start, pretraining; then a start and actor-critic fine-tuning (`hetlm`, and with fixed clusters
its controls), or expectation-maximisation over predictors and a selector that is taught (`mixture`); last, predictors
move back towards the single one where that is better.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from browsing.encoder import Encoder
from browsing.markov import MarkovMixture
from training.data import Data, Embedded
from training.dataset import Dataset
from training.evaluation.metrics.loss import markov_nats
from training.hardware import Hardware
from training.hetlm.loop import Tuned
from training.predictors import load_weights
from training.pretrain import AfterEpoch, per_page, pretrain
from training.rule_losses import rules_of
from training.run import Run, locked
from training.stages.clusters import explained_users, moved_back, tuned_clusters
from training.stages.encoding import embedded_users, encoders_of
from training.stages.everybody import markov_mixture, new_predictor, pretrained_predictor, single_predictor


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Everything that a bundle is written from. `model` holds the architecture; its weights change hands. `shared`: the
    directory of the predictor pretrained on everybody."""

    data: Data
    embedded: Embedded
    mixture: MarkovMixture
    model: nn.Module
    shared: Path
    tuned: Tuned
    losses: dict[str, float]
    seconds: dict[str, float]


def run_data(dataset: Dataset, encoder: Encoder) -> dict[str, str]:
    """What, besides the settings, names a run."""
    return {**dataset.info.hashes, "encoder": encoder.weights_sha256, "encoder tokenizer": encoder.tokenizer_sha256}


def train_bundle_parts(
    dataset: Dataset,
    sbert: Encoder,
    run: Run,
    device: torch.device,
    after_epoch: AfterEpoch = lambda stage, epoch: None,
    hardware: Hardware | None = None,
) -> Trained:
    """All stages. Raises `ValueError` where the data or the settings do not allow one."""
    settings = run.settings
    hardware = hardware or Hardware(device, settings.precision)
    clock = _Clock()
    data = Data.read(dataset, settings)
    with clock("markov"):
        mixture = markov_mixture(data, run, settings)
    with clock("pretrain"), locked(run.pretraining):
        model = new_predictor(data, settings, device)
        pretrained = pretrained_predictor(model, data, run, after_epoch, hardware)
    single = None
    if settings.method == "single" or (settings.interpolate and settings.kinds > 1):
        with clock("single"), locked(run.single):
            single = single_predictor(model, data, run, after_epoch, hardware)
    explained = None
    if settings.method == "mixture":
        load_weights(model, pretrained.weights)
        with clock("mixture"):
            explained = explained_users(model, data, mixture, run, after_epoch, hardware)
    with clock("embeddings"), locked(run.shared):
        embedded = embedded_users(data, encoders_of(data, run, sbert, device), mixture, explained, run)
    load_weights(model, pretrained.weights)
    with clock("tune"):
        tuned = tuned_clusters(model, data, embedded, mixture, explained, single, run, after_epoch, hardware)
    if single is not None and settings.kinds > 1:
        with clock("interpolate"):
            tuned = moved_back(model, data, embedded, tuned, pretrained, single, run)
    with clock("rules"):
        rules = rules_of(model, data, embedded, tuned, mixture, settings)
        run.log({"stage": "rules", "epoch": 0, "rules": rules})
    losses = {
        "shared": tuned.shared_loss,
        "kept": tuned.system.loss,
        "markov": per_page(*markov_nats(mixture, [e.pair for e in data.select.examples], lambda n: None)),
    }
    if single is not None:
        losses["single"] = float(single.nats.sum() / max(int(data.select.tokens.sum()), 1))
    known = {name: loss for name, loss in losses.items() if np.isfinite(loss) and data.select.samples}
    return Trained(data, embedded, mixture, model, run.pretraining / "shared", tuned, known, clock.seconds)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - began, 2)


def assist(dataset: Dataset, run: Run, hardware: Hardware) -> None:
    """What every process but the main one does: it pretrains along, and writes nothing."""
    data = Data.read(dataset, run.settings)
    pretraining = Run(run.pretraining, run.settings)
    model = new_predictor(data, run.settings, hardware.device)
    pretrain(model, data.train.once, data.select.examples, pretraining, lambda stage, epoch: None, hardware)
