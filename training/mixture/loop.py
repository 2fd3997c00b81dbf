"""Expectation-maximisation over predictors.

Every user belongs to one cluster, whose predictor explains all of the user's sequence. From first responsibilities (the
Markov mixture's) on, each round trains every predictor for an epoch on the users drawn for it (M), asks how likely each
user's sequence is under every predictor (E), and merges clusters that explain the same users.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from browsing.console import STDERR, progress
from training.batches import Example, epoch_rows, seed_of
from training.hardware import Hardware, adamw
from training.hetlm.keeping import SHARED, Keeper, System, Version
from training.learning import one_pass, schedule
from training.mixture.clusters import Clusters, sizes_of
from training.mixture.evidence import (
    Evidence,
    choose_temper,
    read,
    responsibilities,
    routed_nats,
)
from training.mixture.merge import average, costs_nothing, likeliest
from training.owners import Floats, Ints
from training.predictors import load_weights, weights_of
from training.pretrain import AfterEpoch, per_page
from training.run import Run, State
from training.scoring import target_nats
from training.screen import EpochTable

STAGE = "mixture"


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """What EM comes to: the kept predictors, float64 [N, K] responsibilities of the training and of the selection
    users, the selection users' evidence, and what the clusters weigh."""

    versions: list[Version]
    epoch: int
    train: Floats
    select: Floats
    evidence: Evidence
    train_evidence: Evidence
    weights: Floats
    temper: float
    shared_loss: float


def explain(
    shared: nn.Module,
    train: Sequence[Example],
    select: Sequence[Example],
    owner: Ints,
    start: Floats,
    run: Run,
    after_epoch: AfterEpoch,
    hardware: Hardware | None = None,
    cover: Ints | None = None,
) -> Explained:
    """Run EM for `tune_epochs` rounds from the responsibilities `start` [N, K]; goes on from the last finished round.

    `owner` [S]: users of the selection samples; clusters are merged where it costs them nothing. `cover`: rows of the
    training samples that the M step learns from, by default all (see `training.batches.cover`).

    The shared predictor is every cluster's version 0. What is kept is the round, and in it per cluster the version,
    with the lowest loss on the selection users, each routed by the posterior given the history.
    """
    settings = run.settings
    device = next(shared.parameters()).device
    hardware = hardware or Hardware(device, settings.precision)
    shared_nats, tokens = target_nats(shared, [e.pair for e in select])
    keeper = Keeper(Version(SHARED, 0, weights_of(shared), shared_nats), tokens)
    rates = settings.predictor_learning_rate, settings.predictor_weight_decay
    clusters = Clusters.begin(shared, start, *rates)
    begun = {"start": settings.start, "sizes": sizes_of(clusters.resp), "origins": list(clusters.origins)}
    run.log({"stage": "start", "epoch": 0} | begun)
    done = 0
    if state := run.load(STAGE):
        clusters.restore(state.tensors, state.document, *rates)
        keeper.restore(state.tensors, state.document["keeper"])
        hardware.restore(state.document["hardware"])
        done = state.epoch
    table = EpochTable((("round", 5), ("sizes", 34), ("temper", 6), ("train", 7), ("valid", 7), ("seconds", 7)))
    lengths = np.array([len(e.ids) for e in train], np.int64)
    learnt = np.arange(len(train)) if cover is None else cover
    for epoch in range(done + 1, settings.tune_epochs + 1):
        began = time.perf_counter()
        torch.manual_seed(seed_of(settings.seed, STAGE, epoch))
        before = [clusters.origins[k] for k in clusters.resp.argmax(1).tolist()]
        clusters.merged.clear()
        labels = _draw(clusters.resp, seed_of(settings.seed, STAGE, "labels", epoch))[learnt]
        mine = [learnt[labels == k] for k in range(len(clusters.predictors))]
        train_loss = _maximise(clusters, train, lengths, mine, run, epoch, hardware)
        with progress(f"assigning, round {epoch}", len(clusters.predictors) * (len(train) + len(select))) as advance:
            held = read(clusters.predictors, select, advance=advance)
            seen = read(clusters.predictors, train, advance=advance)
        temper = _reassign(clusters, seen, held)
        held, seen = _merge(clusters, seen, held, temper, train, select, owner)
        temper = _reassign(clusters, seen, held)
        own = _own(held, clusters.weights, temper)
        after = (clusters.origins[k] for k in clusters.resp.argmax(1).tolist())
        moved = sum(clusters.heir(old) != new for old, new in zip(before, after, strict=True))
        clusters.trajectory.append(len(clusters.predictors))
        if clusters.merged:
            keeper.best = None  # merging was allowed to cost a little: what came before must not undo it
        system = keeper.offer(epoch, {}, clusters.predictors, clusters.origins, own, held.target)
        loss = per_page(routed_nats(held, own), tokens)
        seconds = time.perf_counter() - began
        sizes = sizes_of(clusters.resp)
        run.log(
            {
                "stage": STAGE,
                "epoch": epoch,
                "clusters": len(clusters.predictors),
                "origins": list(clusters.origins),
                "sizes": sizes,
                "moved": moved,
                "temper": temper,
                "train_loss": train_loss,
                "validation_loss": loss if loss == loss else None,
                "kept_loss": system.loss if len(held.target) else None,
                "shared_loss": per_page(shared_nats, tokens) if len(tokens) else None,
                "kept": [v.name for v in system.versions],
                "seconds": round(seconds, 3),
            }
        )
        document = {"keeper": keeper.document(), "hardware": hardware.document()}
        run.save(STAGE, State(epoch, clusters.tensors() | keeper.tensors(), clusters.document() | document))
        table.row(
            str(epoch), " ".join(map(str, sizes)), f"{temper:g}", f"{train_loss:.4f}", f"{loss:.4f}", f"{seconds:.1f}"
        )
        after_epoch(STAGE, epoch)
    return _conclude(shared, clusters, keeper, train, select, per_page(shared_nats, tokens))


def _draw(resp: Floats, seed: int) -> Ints:
    """One cluster per user, drawn from its responsibilities: in expectation the soft M step, at the price of one."""
    uniforms = np.random.default_rng(seed).random(len(resp))
    drawn: Ints = (np.cumsum(resp, 1) <= uniforms[:, None]).sum(1).clip(0, resp.shape[1] - 1)
    return drawn


def _maximise(
    clusters: Clusters,
    train: Sequence[Example],
    lengths: Ints,
    own: Sequence[Ints],
    run: Run,
    epoch: int,
    hardware: Hardware,
) -> float:
    """One epoch of every predictor on its `own` rows, all tokens scored. Returns their nats per token.

    Each predictor takes as many steps as its users fill batches: a batch holds users of one cluster alone.
    """
    settings = run.settings
    summed, counted = 0.0, 0

    def rate(share: float) -> float:
        return settings.predictor_learning_rate * schedule((epoch - 1 + share) / settings.tune_epochs)

    with progress(f"fine-tuning, round {epoch}", sum(map(len, own)), "samples") as advance:
        for k, (predictor, critic) in enumerate(zip(clusters.predictors, clusters.critics, strict=True)):
            mine = own[k]
            seed = seed_of(settings.seed, STAGE, "rows", epoch, clusters.origins[k])
            batches = list(epoch_rows(lengths[mine], settings.tune_batch_size, seed))[: settings.limit_batches]
            rows = [mine[places] for places in batches]
            steps = one_pass(predictor, critic, train, rows, rate, hardware, settings.dropout)
            for batch, (nats, tokens) in zip(rows, steps, strict=True):
                summed, counted = summed + nats, counted + tokens
                advance(len(batch))
    return summed / max(counted, 1)


def _reassign(clusters: Clusters, seen: Evidence, held: Evidence) -> float:
    """New responsibilities and weights from the evidence; returns the power of the likelihood that made them."""
    temper = choose_temper(held, clusters.weights)
    clusters.resp = responsibilities(seen.whole, clusters.weights, temper)
    clusters.weights = clusters.resp.mean(0)
    return temper


def _own(evidence: Evidence, weights: Floats, temper: float) -> Ints:
    own: Ints = responsibilities(evidence.history, weights, temper).argmax(1)
    return own


def _merge(
    clusters: Clusters,
    seen: Evidence,
    held: Evidence,
    temper: float,
    train: Sequence[Example],
    select: Sequence[Example],
    owner: Ints,
) -> tuple[Evidence, Evidence]:
    """Merge pairs of clusters as long as it costs the selection users nothing. Returns the evidence (held, seen)."""
    merged = True
    while merged and len(clusters.predictors) > 1 and len(select) > 1:
        merged = False
        for pair in likeliest(seen.whole, clusters.resp.argmax(1)):
            i, j = pair.first, pair.second
            shares = (float(clusters.weights[i]), float(clusters.weights[j]))
            weights = average([weights_of(clusters.predictors[k]) for k in (i, j)], shares)
            trial = copy.deepcopy(clusters.predictors[i])
            load_weights(trial, weights)
            kept = [k for k in range(len(clusters.predictors)) if k != j]
            column = read([trial], select)
            after = held.merged(kept, kept.index(i), column)
            weighed = clusters.weights.copy()
            weighed[i] = sum(shares)
            now = routed_nats(held, _own(held, clusters.weights, temper))
            then = routed_nats(after, _own(after, weighed[kept], temper))
            if not costs_nothing(now, then, owner):
                continue
            STDERR.print(f"clusters {i} and {j} explain the same users: merged, {len(kept)} remain")
            group = clusters.critics[i].param_groups[0]
            clusters.predictors[i] = trial
            clusters.critics[i] = adamw(trial, group["lr"], group["weight_decay"])
            clusters.merged |= {clusters.origins[i]: clusters.named, clusters.origins[j]: clusters.named}
            clusters.origins[i], clusters.named = clusters.named, clusters.named + 1
            clusters.weights = weighed
            clusters.resp[:, i] += clusters.resp[:, j]
            clusters.keep(kept)
            held, seen = after, seen.merged(kept, kept.index(i), read([trial], train))
            _reassign(clusters, seen, held)
            merged = True
            break
    return held, seen


def _conclude(
    shared: nn.Module,
    clusters: Clusters,
    keeper: Keeper,
    train: Sequence[Example],
    select: Sequence[Example],
    shared_loss: float,
) -> Explained:
    """Ask the kept predictors about everybody once more: they may be those of an earlier round."""
    system = keeper.best or System(0, {}, [keeper.shared] * len(clusters.predictors), shared_loss)
    predictors = []
    for version in system.versions:
        predictor = copy.deepcopy(shared).eval()
        load_weights(predictor, version.weights)
        predictors.append(predictor)
    with progress("assigning, the kept predictors", len(predictors) * (len(train) + len(select))) as advance:
        held, seen = read(predictors, select, advance=advance), read(predictors, train, advance=advance)
    same = len(system.versions) == len(clusters.weights)
    weights = clusters.weights if same else np.full(len(predictors), 1 / len(predictors))
    for _ in range(10):  # the weights alone, which settle in a few steps
        temper = choose_temper(held, weights)
        resp = responsibilities(seen.whole, weights, temper)
        weights = resp.mean(0)
    used = [k for k, size in enumerate(sizes_of(resp)) if size]
    weights = weights[used] / weights[used].sum()
    seen, held = (Evidence(e.history[:, used], e.target[:, used]) for e in (seen, held))
    return Explained(
        versions=[system.versions[k] for k in used],
        epoch=system.epoch,
        train=responsibilities(seen.whole, weights, temper),
        select=responsibilities(held.whole, weights, temper),
        evidence=held,
        train_evidence=seen,
        weights=weights,
        temper=temper,
        shared_loss=shared_loss,
    )
