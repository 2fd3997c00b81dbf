"""Which encoder the selector sees through: the one that tells the clusters apart best on held-out users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from browsing.console import progress
from browsing.encoder import Encoder, EncoderKind
from training.batches import seed_of
from training.dataset import Sample
from training.embeddings import Encoded, encode
from training.starts import SELECTOR_EPOCHS, Assignment, Floats32, copy_start

CHOICE_TRAIN, CHOICE_SELECT = 3_000, 1_500
"""Users that the choice looks at: reading everybody's page names for an encoder that is not taken would cost most."""
DECAYS = (1.0, 0.8)


@dataclass(frozen=True, slots=True)
class Choice:
    """An encoder and a decay. `losses`: cross-entropy of the clusters of held-out users, in nats, by "kind decay"."""

    kind: EncoderKind
    decay: float
    losses: dict[str, float]


def choose_encoding(
    encoders: Mapping[EncoderKind, Encoder],
    train: Sequence[Sample],
    select: Sequence[Sample],
    assignment: Assignment,
    folder: Path,
    seed: int,
    decays: Sequence[float] = DECAYS,
) -> Choice:
    """The encoder and decay from which a selector tells the selection users' clusters best.

    `assignment`: probabilities over the clusters of the same users. Where there is nothing to choose, or nobody to
    choose on, the first of each is taken.
    """
    kinds = list(encoders)
    if (len(kinds) == 1 and len(decays) == 1) or not select or assignment.train.shape[1] == 1:
        return Choice(kinds[0], decays[0], {})
    generator = np.random.default_rng(seed_of(seed, "encoding"))
    rows = np.sort(generator.permutation(len(train))[:CHOICE_TRAIN])
    held = np.sort(generator.permutation(len(select))[:CHOICE_SELECT])
    groups = [[train[i] for i in rows], [select[i] for i in held]]
    own = Assignment(assignment.train[rows], assignment.select[held])
    losses: dict[tuple[EncoderKind, float], float] = {}
    for kind, encoder in encoders.items():
        encoded = encode(groups, encoder, folder)
        for decay in decays:
            losses[kind, decay] = _loss(encoded, groups, own, decay, seed)
    best = min(losses, key=lambda key: losses[key])
    return Choice(best[0], best[1], {f"{kind} {decay:g}": loss for (kind, decay), loss in losses.items()})


def _loss(encoded: Encoded, groups: Sequence[Sequence[Sample]], own: Assignment, decay: float, seed: int) -> float:
    z, held = (encoded.pooled(samples, decay) for samples in groups)
    with progress("trying an encoder", SELECTOR_EPOCHS, "epochs") as advance:
        selector = copy_start(z, held, own, seed=seed, temperature=1.0, smoothing=0.0, advance=advance)
    return held_out_loss(selector(torch.from_numpy(held)), own.select)


def held_out_loss(logits: torch.Tensor, shares: Floats32) -> float:
    """The cross-entropy of `logits` [S, K] against probabilities [S, K], in nats."""
    return float(F.cross_entropy(logits.detach(), torch.from_numpy(shares)))
