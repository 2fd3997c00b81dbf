"""The warm start: a predictor learns to copy and to read habits on synthetic browsing before it sees the log.

How much of it is chosen on validation: from the weights after every synthetic epoch, and from none, a short probe of
real training is run, and whatever leads to the lowest loss on the selection users begins the pretraining.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from browsing.console import STDERR, progress
from training.batches import Example, epoch_rows, seed_of
from training.hardware import Hardware, adamw
from training.learning import one_pass, schedule
from training.predictors import Weights, load_weights, weights_of
from training.pretrain import AfterEpoch, per_page
from training.run import Run, State, under
from training.scoring import target_nats
from training.settings import Settings
from training.synthetic import visitors

STAGE = "warm"
PROBE_USERS, PROBE_SELECT = 4_000, 1_000
"""Users that a probe trains on, once, and is measured on."""


def warm_start(
    model: nn.Module,
    vocabulary_size: int,
    train: Sequence[Example],
    select: Sequence[Example],
    run: Run,
    after_epoch: AfterEpoch,
    hardware: Hardware | None = None,
) -> None:
    """Leave `model` with the weights to pretrain from; goes on from the run's last finished synthetic epoch.

    Without selection users all synthetic epochs are taken. Costs and gains go to the run's log.
    """
    settings = run.settings
    hardware = hardware or Hardware(next(model.parameters()).device, settings.precision)
    if not settings.warm_epochs:
        return
    candidates: list[Weights] = [weights_of(model)]
    seconds = 0.0
    if state := run.load(STAGE):
        candidates += [under(state.tensors, f"{epoch}/") for epoch in range(1, state.epoch + 1)]
        load_weights(model, candidates[-1])
        seconds = float(state.document["seconds"])
    for epoch in range(len(candidates), settings.warm_epochs + 1):
        began = time.perf_counter()
        seed = seed_of(settings.seed, STAGE, epoch)
        people = visitors(vocabulary_size, settings.warm_users, seed, settings.context)
        # Each synthetic epoch ends at a low learning rate: any of them may be the last.
        loss = _epoch(model, people, settings, seed, epoch, hardware)
        candidates.append(weights_of(model))
        seconds += time.perf_counter() - began
        run.log({"stage": STAGE, "epoch": epoch, "train_loss": loss, "seconds": round(time.perf_counter() - began, 3)})
        tensors = {f"{n}/{name}": w for n, weights in enumerate(candidates) if n for name, w in weights.items()}
        run.save(STAGE, State(epoch, tensors, {"seconds": seconds}))
        after_epoch(STAGE, epoch)
    if not select:
        return
    began = time.perf_counter()
    losses = [_probe(model, weights, train, select, run, hardware) for weights in candidates]
    best = min(range(len(losses)), key=lambda n: losses[n])
    probing = time.perf_counter() - began
    run.log(
        {
            "stage": "warm choice",
            "epoch": 0,
            "users": settings.warm_users,
            "losses": losses,
            "chosen": best,
            "seconds": round(seconds, 3),
            "probe_seconds": round(probing, 3),
        }
    )
    STDERR.print(
        f"warm start: after a probe of {min(len(train), PROBE_USERS):,} users {losses[best]:.4f} nats per page from "
        f"{best} synthetic epochs, {losses[0]:.4f} from none"
    )
    load_weights(model, candidates[best])


def _probe(
    model: nn.Module,
    weights: Weights,
    train: Sequence[Example],
    select: Sequence[Example],
    run: Run,
    hardware: Hardware,
) -> float:
    """The selection users' nats per page after one pass over a few of the training users."""
    settings = run.settings
    load_weights(model, weights)
    few = np.random.default_rng(seed_of(settings.seed, "probe")).permutation(len(train))[:PROBE_USERS]
    people = [train[i] for i in np.sort(few)]
    _epoch(model, people, settings, 0, None, hardware)
    return per_page(*target_nats(model, [e.pair for e in select[:PROBE_SELECT]]))


def _epoch(
    model: nn.Module, people: Sequence[Example], settings: Settings, seed: int, epoch: int | None, hardware: Hardware
) -> float:
    """One pass, all tokens scored, the learning rate from warm-up to a tenth. Returns nats per token."""
    torch.manual_seed(seed)
    optimizer = adamw(model, settings.learning_rate, settings.weight_decay, betas=(0.9, 0.95))
    lengths = np.array([len(e.ids) for e in people], np.int64)
    batches = list(epoch_rows(lengths, settings.batch_size, seed))[: settings.limit_batches]
    summed, counted = 0.0, 0

    def rate(share: float) -> float:
        return settings.learning_rate * schedule(share, settings.warmup)

    model.train()
    title = "probing the warm start" if epoch is None else f"warm start, epoch {epoch}"
    with progress(title, len(people), "samples") as advance:
        steps = one_pass(model, optimizer, people, batches, rate, hardware)
        for rows, (nats, tokens) in zip(batches, steps, strict=True):
            summed, counted = summed + nats, counted + tokens
            advance(len(rows))
    return summed / max(counted, 1)
