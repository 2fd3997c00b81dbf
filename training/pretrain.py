"""Pretraining: ONE predictor on everybody (HeTLM, section 4.6, step 3), copied K times later.

Every token of history and next session is scored: a predictor that has only seen next sessions knows nothing of
histories. It stops early by the loss on the selection users' next sessions. Several processes (`accelerate launch`)
share every step's samples; how many there are changes how long it takes, and the result by rounding alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from browsing.console import progress
from browsing.vocabulary import BOS
from training.batches import Example, collate, epoch_rows, seed_of
from training.dropout import dropping
from training.hardware import Hardware, adamw
from training.learning import CLIP, schedule, set_rate
from training.predictors import Weights, live_weights, load_weights, weights_of
from training.run import Run, State, adam_tensors, restore_adam, under
from training.scoring import target_nats, token_nats
from training.screen import EpochTable

STAGE = "pretrain"
AfterEpoch = Callable[[str, int], None]
"""Called with (stage, epoch) once an epoch's state is safe on disk."""


@dataclass(frozen=True, slots=True, eq=False)
class Pretrained:
    """The shared predictor: the weights of its best epoch, and its loss there in nats per page of the next session."""

    weights: Weights
    epoch: int
    loss: float


def per_page(nats: NDArray[np.float64], tokens: NDArray[np.int64]) -> float:
    """Nats per page of the next session, `[EOS]` counted; not a number where there is no session."""
    return float(nats.sum() / tokens.sum()) if len(tokens) else math.nan


def pretrain(
    model: nn.Module,
    train: Sequence[Example],
    select: Sequence[Example],
    run: Run,
    after_epoch: AfterEpoch,
    hardware: Hardware | None = None,
) -> Pretrained:
    """Train until the validation loss has not fallen for `patience` epochs. Goes on from the run's last epoch.

    One step takes `accumulate` times `batch_size` samples, and its loss is the mean over all their tokens, however
    many parts and processes they are spread over. Without selection users every epoch counts as better than the last.
    `model` is left with the best weights. With several processes each calls this with the same data, and the main one,
    whose weights it begins with, alone writes.
    """
    settings = run.settings
    device = next(model.parameters()).device
    hardware = hardware or Hardware(device, settings.precision)
    lengths = np.array([len(e.ids) for e in train], np.int64)
    scored = np.array([sum(token != BOS for token in e.ids) for e in train], np.int64)
    together = settings.batch_size * settings.accumulate
    steps = math.ceil(len(train) / together)
    steps = min(steps, settings.limit_batches or steps)
    optimizer = adamw(model, settings.learning_rate, settings.weight_decay, betas=(0.9, 0.95))
    hardware.agree(model)  # the main process alone has warmed it up, and holds the lock on the state
    best, done, stopped = Pretrained(weights_of(model), 0, math.inf), 0, False
    if state := run.load(STAGE):
        load_weights(model, under(state.tensors, "model/"))
        restore_adam(optimizer, model, "adam/", state.tensors)
        best = Pretrained(under(state.tensors, "best/"), state.document["best_epoch"], state.document["best_loss"])
        done, stopped = state.epoch, state.document["stopped"]
        hardware.restore(state.document["hardware"])
    table = EpochTable((("epoch", 5), ("train", 8), ("validation", 10), ("seconds", 8), ("", 5)))
    for epoch in range(done + 1, settings.epochs + 1):
        if stopped:
            break
        began = time.perf_counter()
        torch.manual_seed(seed_of(settings.seed, STAGE, epoch) + hardware.rank)
        model.train()
        summed, counted = 0.0, 0
        order = epoch_rows(lengths, together, seed_of(settings.seed, STAGE, "rows", epoch))
        with progress(f"pretraining, epoch {epoch}", min(len(train), steps * together), "samples") as advance:
            for step, rows in enumerate(islice(order, steps)):
                tokens = int(scored[rows].sum())
                mine = rows[hardware.rank :: hardware.processes]
                for start in range(0, len(mine), settings.batch_size):
                    batch = collate(train, mine[start : start + settings.batch_size], device)
                    with hardware.autocast(), dropping(model, settings.dropout):
                        nats = token_nats(model, batch.ids, batch.scored).sum()
                    hardware.backward(nats / tokens)
                    summed += float(nats.detach())
                done_share = ((epoch - 1) * steps + step) / (settings.epochs * steps)
                rate = settings.learning_rate * schedule(done_share, settings.warmup)
                set_rate(optimizer, rate)
                hardware.step(optimizer, model, CLIP, together=True)
                counted += tokens
                advance(len(rows))
        summed, loss = _epoch_losses(model, select, summed, hardware)
        better = not select or loss < best.loss  # a loss that is no number is never better
        if better:
            best = Pretrained(weights_of(model), epoch, loss if not math.isnan(loss) else math.inf)
        stopped = epoch - best.epoch >= settings.patience
        seconds = time.perf_counter() - began
        if hardware.main:
            run.log(
                {
                    "stage": STAGE,
                    "epoch": epoch,
                    "train_loss": summed / counted,
                    "validation_loss": None if math.isnan(loss) else loss,
                    "learning_rate": rate,
                    "tokens": counted,
                    "seconds": round(seconds, 3),
                }
            )
            run.save(STAGE, _state(epoch, model, optimizer, best, stopped, hardware))
            table.row(str(epoch), f"{summed / counted:.4f}", f"{loss:.4f}", f"{seconds:.1f}", "best" if better else "")
            after_epoch(STAGE, epoch)
    load_weights(model, best.weights)
    return best


def _epoch_losses(
    model: nn.Module, select: Sequence[Example], summed: float, hardware: Hardware
) -> tuple[float, float]:
    """The training nats of all processes, and the loss on the selection users, whom they share out: equal on all, since
    they must agree on when to stop."""
    with hardware.autocast():
        nats, tokens = target_nats(model, [e.pair for e in select[hardware.rank :: hardware.processes]])
    if hardware.processes == 1:
        return summed, per_page(nats, tokens)
    sums = torch.tensor([summed, nats.sum(), tokens.sum()], dtype=torch.float64, device=hardware.device)
    train, validation, pages = hardware.total(sums).tolist()
    return train, validation / pages if pages else math.nan


def _state(
    epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer, best: Pretrained, stopped: bool, hardware: Hardware
) -> State:
    tensors = {f"model/{n}": w for n, w in live_weights(model).items()} | {
        f"best/{n}": w for n, w in best.weights.items()
    }
    tensors |= adam_tensors(optimizer, model, "adam/")
    document = {"best_epoch": best.epoch, "best_loss": best.loss, "stopped": stopped, "hardware": hardware.document()}
    return State(epoch, tensors, document)
