"""Pretraining: ONE predictor on everybody (HeTLM, section 4.6, step 3), copied K times later.

Every token of history and next session is scored: a predictor that has only seen next sessions knows nothing of
histories. It stops early by the loss on the selection users' next sessions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from browsing.console import progress
from training.batches import Example, collate, epoch_rows, seed_of
from training.predictors import Weights, load_weights, weights_of
from training.run import Run, State, adam_tensors, restore_adam
from training.scoring import target_nats, token_nats
from training.screen import EpochTable

STAGE = "pretrain"
CLIP = 1.0
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
    model: nn.Module, train: Sequence[Example], select: Sequence[Example], run: Run, after_epoch: AfterEpoch
) -> Pretrained:
    """Train until the validation loss has not fallen for `patience` epochs. Goes on from the run's last epoch.

    Without selection users every epoch counts as better than the last. `model` is left with the best weights.
    """
    settings = run.settings
    device = next(model.parameters()).device
    lengths = np.array([len(e.ids) for e in train], np.int64)
    steps = math.ceil(len(train) / settings.batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.95)
    )
    best, done, stopped = Pretrained(weights_of(model), 0, math.inf), 0, False
    if state := run.load(STAGE):
        load_weights(model, _part(state.tensors, "model/"))
        restore_adam(optimizer, model, "adam/", state.tensors)
        best = Pretrained(_part(state.tensors, "best/"), state.document["best_epoch"], state.document["best_loss"])
        done, stopped = state.epoch, state.document["stopped"]
    table = EpochTable((("epoch", 5), ("train", 8), ("validation", 10), ("seconds", 8), ("", 5)))
    for epoch in range(done + 1, settings.epochs + 1):
        if stopped:
            break
        began = time.perf_counter()
        torch.manual_seed(seed_of(settings.seed, STAGE, epoch))
        model.train()
        summed, counted = 0.0, 0
        with progress(f"pretraining, epoch {epoch}", len(train), "samples") as advance:
            for step, rows in enumerate(
                epoch_rows(lengths, settings.batch_size, seed_of(settings.seed, STAGE, "rows", epoch))
            ):
                batch = collate(train, rows, device)
                nats = token_nats(model, batch.ids, batch.scored)
                tokens = int(batch.scored.sum())
                done_share = ((epoch - 1) * steps + step) / (settings.epochs * steps)
                rate = settings.learning_rate * schedule(done_share, settings.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                torch.autograd.backward(nats.sum() / tokens)
                torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                summed, counted = summed + float(nats.detach().sum()), counted + tokens
                advance(len(rows))
        loss = per_page(*target_nats(model, [e.pair for e in select]))
        better = not select or loss < best.loss  # a loss that is no number is never better
        if better:
            best = Pretrained(weights_of(model), epoch, loss if not math.isnan(loss) else math.inf)
        stopped = epoch - best.epoch >= settings.patience
        seconds = time.perf_counter() - began
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
        run.save(STAGE, _state(epoch, model, optimizer, best, stopped))
        table.row(str(epoch), f"{summed / counted:.4f}", f"{loss:.4f}", f"{seconds:.1f}", "best" if better else "")
        after_epoch(STAGE, epoch)
    load_weights(model, best.weights)
    return best


def schedule(done: float, warmup: float) -> float:
    """The learning rate's factor when the share `done` in [0, 1) of all steps is done: linear up over `warmup`, then
    a half cosine down to a tenth."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def _state(epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer, best: Pretrained, stopped: bool) -> State:
    tensors = {f"model/{n}": w for n, w in weights_of(model).items()} | {
        f"best/{n}": w for n, w in best.weights.items()
    }
    tensors |= adam_tensors(optimizer, model, "adam/")
    return State(epoch, tensors, {"best_epoch": best.epoch, "best_loss": best.loss, "stopped": stopped})


def _part(tensors: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
