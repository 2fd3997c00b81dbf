"""From a first assignment of users to K tuned predictors and the selector between them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

from browsing.console import STDERR, progress
from browsing.markov import MarkovMixture
from browsing.selector import Selector
from training.batches import seed_of
from training.controls.token import tune_token
from training.data import Data, Embedded
from training.hardware import Hardware
from training.hetlm.keeping import SHARED, System, Version
from training.hetlm.loop import Tuned, Users, tune
from training.interpolate import interpolate
from training.mixture.loop import Explained, explain
from training.predictors import load_weights
from training.pretrain import AfterEpoch, Pretrained
from training.run import Run, write_json
from training.scoring import target_nats
from training.settings import Settings
from training.stages.everybody import SINGLE
from training.starts import (
    SELECTOR_EPOCHS,
    Assignment,
    copy_start,
    kmeans_start,
    markov_start,
    random_selector,
    silhouette_clusters,
)
from training.teach import teach


def explained_users(
    model: nn.Module, data: Data, mixture: MarkovMixture, run: Run, after_epoch: AfterEpoch, hardware: Hardware
) -> Explained:
    """The mixture of predictors, from the Markov mixture's responsibilities and the pretrained `model` on."""
    first = markov_start(mixture, data.train.samples, data.select.samples, data.vocabulary).train
    train, select = data.train, data.select
    start = first.astype(np.float64)
    return explain(model, train.examples, select.examples, select.owner, start, run, after_epoch, hardware, train.cover)


def tuned_clusters(
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
    """By the settings' method. `explained`: what the mixture found; `single`: the predictor tuned on everybody."""
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


def moved_back(
    model: nn.Module, data: Data, embedded: Embedded, tuned: Tuned, pretrained: Pretrained, single: Version, run: Run
) -> Tuned:
    """Move the kept predictors towards the better of the shared and the single one."""
    load_weights(model, pretrained.weights)
    select = data.select
    pairs = [e.pair for e in select.examples]
    shared = Version(SHARED, 0, pretrained.weights, target_nats(model, pairs)[0])
    own = tuned.selector.probabilities(torch.from_numpy(embedded.select)).argmax(1).numpy()
    system = tuned.system
    with progress("interpolating", 3 * len(pairs) * len(system.versions), "samples") as advance:
        moved = interpolate(model, system.versions, [shared, single], own, select.examples, select.owner, advance)
    total = max(int(select.tokens.sum()), 1)
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
