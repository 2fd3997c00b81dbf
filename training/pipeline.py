"""Training from a dataset to weights, stage by stage (HeTLM, section 4.6). Every stage goes on from what the run's
directory holds.

Markov mixture, warm start, pretraining; then a start and actor-critic fine-tuning (`hetlm`, and with fixed clusters
its controls), or expectation-maximisation over predictors and a selector that is taught (`mixture`); last, predictors
move back towards the single one where that is better.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

from browsing.console import STDERR, progress
from browsing.encoder import DECAY, Encoder, EncoderKind
from browsing.encoders.joined import JoinedEncoder
from browsing.encoders.markov import MarkovEncoder
from browsing.encoders.names import opaque_warning
from browsing.encoders.predictor import PredictorEncoder
from browsing.markov import MarkovMixture
from browsing.selector import Selector
from training.batches import seed_of
from training.controls.token import tune_token
from training.data import Data, Embedded
from training.dataset import Dataset
from training.encoding import DECAYS, choose_encoding
from training.enlarging import enlarged
from training.evaluation.loss import markov_nats
from training.hardware import Hardware
from training.hetlm.keeping import SHARED, System, Version
from training.hetlm.loop import STAGE as TUNE
from training.hetlm.loop import Tuned, Users, tune
from training.interpolate import interpolate
from training.mixture.loop import Explained, explain
from training.predictors import build, load_weights, save_predictor
from training.presets import PRESETS
from training.pretrain import AfterEpoch, Pretrained, per_page, pretrain
from training.rule_losses import rules_of
from training.run import Run, locked, write_json
from training.scoring import target_nats
from training.settings import Settings
from training.starts import (
    SELECTOR_EPOCHS,
    Assignment,
    copy_start,
    kmeans_start,
    likeliest_clusters,
    markov_start,
    random_selector,
    silhouette_clusters,
    token_sessions,
)
from training.teach import assignment_of, teach
from training.warm import warm_start

EM_RESTARTS = 3
EM_ITERATIONS = 50
SINGLE = "single"


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
        mixture = _mixture(data, run, settings)
    with clock("pretrain"), locked(run.pretraining):
        model = _predictor(data, settings, device)
        pretrained = _pretrain(model, data, run, after_epoch, hardware)
        shared = run.pretraining / "shared"
        if not shared.exists():  # other runs may be reading it
            partial = shared.with_name(f"shared.partial-{os.getpid()}")
            shutil.rmtree(partial, ignore_errors=True)
            save_predictor(model, pretrained.weights, data.vocabulary, partial)
            partial.rename(shared)
        load_weights(model, pretrained.weights)
    single = None
    if settings.method == "single" or (settings.interpolate and settings.kinds > 1):
        with clock("single"), locked(run.single):
            single = _single(model, data, run, after_epoch, hardware)
    explained = None
    if settings.method == "mixture":
        load_weights(model, pretrained.weights)
        with clock("mixture"):
            first = markov_start(mixture, data.train.samples, data.select.samples, data.vocabulary).train
            explained = explain(
                model,
                data.train.examples,
                data.select.examples,
                first.astype(np.float64),
                run,
                after_epoch,
                hardware,
                data.train.cover,
            )
    with clock("embeddings"), locked(run.shared):
        encoders: dict[EncoderKind, Encoder] = {
            "markov": MarkovEncoder(run.root / "markov", data.vocabulary),
            "predictor": (hidden := PredictorEncoder(shared, device)),
            "sbert": sbert,
            "both": JoinedEncoder(sbert, hidden),
        }
        embedded = _embed(data, encoders, explained, run)
    load_weights(model, pretrained.weights)
    with clock("tune"):
        tuned = _tune(model, data, embedded, mixture, explained, single, run, after_epoch, hardware)
    if single is not None and settings.kinds > 1:
        with clock("interpolate"):
            tuned = _interpolate(model, data, embedded, tuned, pretrained, single, run)
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
    return Trained(data, embedded, mixture, model, shared, tuned, known, clock.seconds)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - began, 2)


def _mixture(data: Data, run: Run, settings: Settings) -> MarkovMixture:
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


def assist(dataset: Dataset, run: Run, hardware: Hardware) -> None:
    """What every process but the main one does: it pretrains along, and writes nothing."""
    data = Data.read(dataset, run.settings)
    pretraining = Run(run.pretraining, run.settings)
    model = _predictor(data, run.settings, hardware.device)
    pretrain(model, data.train.once, data.select.examples, pretraining, lambda stage, epoch: None, hardware)


def _predictor(data: Data, settings: Settings, device: torch.device) -> nn.Module:
    preset = enlarged(PRESETS[settings.preset], len(data.vocabulary), settings.context, settings.times)
    seed = seed_of(settings.seed, "weights")
    return build(preset, data.vocabulary, settings.context, seed, settings.checkpoint).to(device)


def _pretrain(model: nn.Module, data: Data, run: Run, after_epoch: AfterEpoch, hardware: Hardware) -> Pretrained:
    """Warm start and pretraining, in the directory that runs share; their records are copied into the run's log."""
    pretraining = Run(run.pretraining, run.settings)
    if run.settings.warm_start == "synthetic" and pretraining.load("pretrain") is None:
        warm_start(
            model, len(data.vocabulary), data.train.once, data.select.examples, pretraining, after_epoch, hardware
        )
    pretrained = pretrain(model, data.train.once, data.select.examples, pretraining, after_epoch, hardware)
    for record in pretraining.records():
        if record["stage"] in ("warm", "warm choice", "pretrain"):
            run.log(record)
    return pretrained


def _single(model: nn.Module, data: Data, run: Run, after_epoch: AfterEpoch, hardware: Hardware) -> Version:
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


def _embed(data: Data, encoders: Mapping[EncoderKind, Encoder], explained: Explained | None, run: Run) -> Embedded:
    """z by the encoder that the settings name, or by the one that tells the mixture's clusters best."""
    settings = run.settings
    if settings.encoder == "sbert" and (warning := opaque_warning(data.vocabulary.pages)):
        STDERR.print(f"[yellow]warning:[/] {warning}")
    kind, decay = settings.encoder, settings.decay
    if explained is not None and (kind is None or decay is None):
        choice = choose_encoding(
            {k: e for k, e in encoders.items() if kind in (None, k)},
            data.train.samples,
            data.select.samples,
            assignment_of(explained),
            run.shared / "choice",
            settings.seed,
            DECAYS if decay is None else (decay,),
        )
        kind, decay = choice.kind, choice.decay
        run.log({"stage": "encoder", "epoch": 0, "kind": kind, "decay": decay, "losses": choice.losses})
        if choice.losses:
            STDERR.print(f"encoder: {kind}, decay {decay:g}, tells the clusters of held-out users best")
    encoder = encoders[kind or "sbert"]
    return Embedded.of(data, encoder, DECAY if decay is None else decay, run.shared / "embeddings")


def _tune(
    model: nn.Module,
    data: Data,
    embedded: Embedded,
    mixture: MarkovMixture,
    explained: Explained | None,
    single: Version | None,
    run: Run,
    after_epoch: AfterEpoch,
    hardware: Hardware,
) -> Tuned:
    settings = run.settings
    if explained is not None:
        return teach(explained, embedded.train, embedded.select, data.select.tokens, settings.seed)
    if settings.method == SINGLE and single is not None:
        return _only(single, embedded, model, data)
    selector, labels = _start(data, embedded, mixture, run)
    users, held = Users(data.train.examples, embedded.train, labels), Users(data.select.examples, embedded.select)
    by_method = tune_token if settings.method == "token" else tune
    return by_method(selector, model, users, held, run, after_epoch, hardware)


def _only(single: Version, embedded: Embedded, model: nn.Module, data: Data) -> Tuned:
    """A system of one predictor, and a selector without a choice."""
    torch.manual_seed(0)
    selector = Selector(embedded.encoder.dimension, 1).eval()
    total = max(int(data.select.tokens.sum()), 1)
    shared = float(target_nats(model, [e.pair for e in data.select.examples])[0].sum()) / total
    state = {name: tensor.clone() for name, tensor in selector.state_dict().items()}
    system = System(single.epoch, state, [single], float(single.nats.sum()) / total)
    return Tuned(system, selector, np.zeros(len(embedded.train), np.int64), shared)


def _start(data: Data, embedded: Embedded, mixture: MarkovMixture, run: Run) -> tuple[Selector, NDArray[np.int64]]:
    """The pretrained selector and the training users' clusters at the start, int64 [N]."""
    settings = run.settings
    folder, done = run.root / "start", run.root / "start.json"
    if not done.exists():
        assignment = _assignment(data, embedded, mixture, settings)
        if settings.method == "random":
            sizes = np.bincount(assignment.train.argmax(1), minlength=assignment.train.shape[1]).tolist()
            selector = random_selector(embedded.train, sizes, seed_of(settings.seed, "random"))
            labels = selector.probabilities(torch.from_numpy(embedded.train)).argmax(1).numpy()
        else:
            selector, labels = _copied(embedded, assignment, settings), assignment.train.argmax(1)
        folder.mkdir(exist_ok=True)
        selector.save(folder / "selector.safetensors")
        save_file({"train": labels}, folder / "clusters.safetensors")
        sizes = np.bincount(labels, minlength=selector.clusters).tolist()
        copies = selector.probabilities(torch.from_numpy(embedded.train)).argmax(1).numpy()
        write_json(done, {"sizes": sizes, "copied": float((copies == labels).mean())})
    note = json.loads(done.read_text())
    run.log({"stage": "start", "epoch": 0, "start": settings.start, **note})
    started: NDArray[np.int64] = load_file(folder / "clusters.safetensors")["train"]
    return Selector.load(folder / "selector.safetensors").train(), started


def _copied(embedded: Embedded, assignment: Assignment, settings: Settings) -> Selector:
    with progress("selector copies the start", SELECTOR_EPOCHS, "epochs") as advance:
        return copy_start(
            embedded.train,
            embedded.select,
            assignment,
            seed=settings.seed,
            temperature=settings.temperature,
            smoothing=settings.smoothing,
            advance=advance,
        )


def _assignment(data: Data, embedded: Embedded, mixture: MarkovMixture, settings: Settings) -> Assignment:
    seed = seed_of(settings.seed, "kmeans")
    if settings.start == "markov":
        assignment = markov_start(mixture, data.train.samples, data.select.samples, data.vocabulary)
    else:
        clusters = settings.clusters
        if settings.choose_clusters:
            clusters = silhouette_clusters(embedded.train, clusters, seed)
            STDERR.print(f"K-means: the silhouette is highest at {clusters} clusters")
        assignment = kmeans_start(embedded.train, embedded.select, clusters, seed)
    return assignment


def _interpolate(
    model: nn.Module, data: Data, embedded: Embedded, tuned: Tuned, pretrained: Pretrained, single: Version, run: Run
) -> Tuned:
    """Move the kept predictors towards the better of the shared and the single one."""
    load_weights(model, pretrained.weights)
    pairs = [e.pair for e in data.select.examples]
    shared = Version(SHARED, 0, pretrained.weights, target_nats(model, pairs)[0])
    own = tuned.selector.probabilities(torch.from_numpy(embedded.select)).argmax(1).numpy()
    system = tuned.system
    with progress("interpolating", 3 * len(pairs) * len(system.versions), "samples") as advance:
        moved = interpolate(model, system.versions, [shared, single], own, data.select.examples, advance)
    total = max(int(data.select.tokens.sum()), 1)
    loss = sum(float(v.nats[own == k].sum()) for k, v in enumerate(moved.versions)) / total
    run.log(
        {
            "stage": "interpolate",
            "epoch": 0,
            "base": moved.base,
            "lambdas": moved.lambdas,
            "before": system.loss,
            "after": loss,
        }
    )
    STDERR.print(f"interpolated towards the {moved.base} predictor: " + ", ".join(f"{x:g}" for x in moved.lambdas))
    return dataclasses.replace(tuned, system=dataclasses.replace(system, versions=moved.versions, loss=loss))
