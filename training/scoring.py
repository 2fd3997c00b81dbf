"""Scoring: the negative log-likelihood of tokens under a predictor, in nats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.batches import Example, collate

PIECE = 1024


def token_nats(model: nn.Module, ids: Tensor, scored: Tensor) -> Tensor:
    """-log p(ids[b, t] | ids[b, :t]) where `scored`, 0 elsewhere (HeTLM, section 4.4).

    `ids`: int64 [B, T], padded on the right (a causal model never looks there, so no mask is needed). `scored`: bool
    [B, T], false in its first column. Returns [B, T], with a gradient. Logits are computed for scored tokens alone.
    """
    decoder = cast(nn.Module, model.base_model)
    head = cast(Callable[[], nn.Module], model.get_output_embeddings)()
    hidden: Tensor = decoder(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    logits = head(hidden[scored[:, 1:]]).float()  # under autocast too a loss is float32
    nats = F.cross_entropy(logits, ids[:, 1:][scored[:, 1:]], reduction="none")
    return nats.new_zeros(ids.shape).masked_scatter(scored, nats)


@torch.inference_mode()
def row_nats(model: nn.Module, ids: Tensor, scored: Tensor) -> Tensor:
    """`token_nats` summed over each row, float64 [B], without a gradient.

    On a CPU in pieces of about `PIECE` tokens: their activations stay in its caches, which saves up to a third.
    """
    rows = max(1, PIECE // ids.shape[1]) if ids.device.type == "cpu" else len(ids)
    pieces = zip(torch.split(ids, rows), torch.split(scored, rows), strict=True)
    return torch.cat([token_nats(model, *piece).double().sum(1) for piece in pieces])


@torch.no_grad()
def target_nats(
    model: nn.Module,
    samples: Sequence[tuple[Sequence[int], Sequence[int]]],
    batch_size: int = 64,
    advance: Callable[[float], None] = lambda n: None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How surprised the model is by next sessions: every target token is counted, no prompt token is.

    `samples`: (prompt ids ending in `[BOS]`, target ids ending in `[EOS]`). Returns summed nats [N] and the number of
    target tokens [N]; their sums' quotient is the test loss in nats per page. `advance(n)` is called per batch.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums = np.zeros(len(samples))
    tokens = np.array([len(target) for _, target in samples], np.int64)
    order = np.argsort(np.array([len(prompt) + len(target) for prompt, target in samples], np.int64), kind="stable")
    for start in range(0, len(samples), batch_size):
        rows = order[start : start + batch_size]
        items = [Example((*samples[row][0], *samples[row][1]), len(samples[row][0])) for row in rows]
        batch = collate(items, np.arange(len(items)), device)
        sums[rows] = row_nats(model, batch.ids, batch.target).cpu().numpy()
        advance(len(rows))
    model.train(was_training)
    return sums, tokens
