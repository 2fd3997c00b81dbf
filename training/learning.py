"""One pass of gradient descent over sequences, and the learning rate along the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.batches import Example, collate
from training.dropout import dropping
from training.hardware import Hardware
from training.scoring import token_nats

CLIP = 1.0
"""Gradients are clipped to this norm."""


def one_pass(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    people: Sequence[Example],
    batches: Sequence[NDArray[np.int64]],
    rate: Callable[[float], float],
    hardware: Hardware,
    dropout: float = 0.0,
) -> Iterator[tuple[float, int]]:
    """One step per batch (rows of `people`), every token of history and next session scored, the loss their mean.

    `rate(share)`: the learning rate when a share in [0, 1) of the pass is done. Yields after each step its nats and
    how many tokens they are of: nothing happens unless somebody takes them.
    """
    device = next(model.parameters()).device
    for step, rows in enumerate(batches):
        batch = collate(people, rows, device)
        with hardware.autocast(), dropping(model, dropout):
            nats = token_nats(model, batch.ids, batch.scored)
        tokens = int(batch.scored.sum())
        set_rate(optimizer, rate(step / len(batches)))
        hardware.backward(nats.sum() / tokens)
        hardware.step(optimizer, model, CLIP)
        yield float(nats.detach().sum()), tokens


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def schedule(done: float, warmup: float = 0.0) -> float:
    """The learning rate's factor when the share `done` in [0, 1) of all steps is done: linear up over `warmup`, then
    a half cosine down to a tenth."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
