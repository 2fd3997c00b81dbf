"""The test loss: nats per page of the next session, `[EOS]` counted, `[BOS]` not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from scipy.special import logsumexp
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from browsing.markov import MarkovMixture
from browsing.vocabulary import EOS, Vocabulary
from training.evaluation.metrics.pages import Flags, Floats, Ints
from training.scoring import target_nats

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]
"""(prompt ids ending in `[BOS]`, target ids) per user."""

CHUNK = 1024
"""Users whose Markov log-likelihoods are computed at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """Per user [N]: nats of the target, its number of tokens, and whether its end was cut off before scoring."""

    nats: Floats
    tokens: Ints
    cut: Flags


def pairs(
    prompts: Sequence[tuple[int, ...]], actual: Sequence[Sequence[str]], vocabulary: Vocabulary, context: int
) -> tuple[list[tuple[tuple[int, ...], list[int]]], Flags]:
    """What is scored, and per user [N] whether the target was cut: a predictor has `context` positions, no more."""
    scored = []
    cut = np.zeros(len(prompts), bool)
    for user, (prompt, pages) in enumerate(zip(prompts, actual, strict=True)):
        target = vocabulary.session(pages)[1:]
        room = context - len(prompt)
        cut[user] = len(target) > room
        scored.append((prompt, target[:room]))
    return scored, cut


def predictor_nats(
    predictors: Sequence[Path], clusters: Sequence[int], users: Pairs, advance: Callable[[float], None]
) -> tuple[Floats, Ints]:
    """Nats [N] and tokens [N] of every user's target under the predictor of that user's cluster, in float32."""
    logging.disable_progress_bar()  # transformers' own bar, for a file of a few megabytes
    nats, tokens = np.zeros(len(users)), np.zeros(len(users), np.int64)
    for cluster in sorted(set(clusters)):
        members = [user for user, own in enumerate(clusters) if own == cluster]
        model = AutoModelForCausalLM.from_pretrained(
            predictors[cluster], dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
        nats[members], tokens[members] = target_nats(model, [users[user] for user in members], advance=advance)
    return nats, tokens


def markov_nats(mixture: MarkovMixture, users: Pairs, advance: Callable[[float], None]) -> tuple[Floats, Ints]:
    """The same under a Markov mixture: log p(prompt) - log p(prompt, target), components mixed by their weights.

    It is the sum of -log `mixture.distribution(prefix)[token]` over the target's tokens.
    """
    nats = np.zeros(len(users))
    log_weights = np.log(mixture.weights)
    for start in range(0, len(users), CHUNK):
        chunk = users[start : start + CHUNK]
        prompts = np.array([len(prompt) for prompt, _ in chunk])
        lengths = prompts + np.array([len(target) for _, target in chunk])
        ids = np.fromiter(chain.from_iterable((*p, *t) for p, t in chunk), np.int64, int(lengths.sum()))
        owner = np.repeat(np.arange(len(chunk)), lengths)
        place = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        # A step belongs to the id it leads to; the first id has none, and what follows `[EOS]` is certain.
        steps = np.flatnonzero((place[1:] > 0) & (ids[:-1] != EOS)) + 1
        logs = np.log(mixture.step(ids[steps - 1], ids[steps]))
        in_prompt = place[steps] < prompts[owner[steps]]
        before, after = (
            logsumexp(
                np.stack([np.bincount(owner[steps], c * keep, minlength=len(chunk)) for c in logs.T], 1) + log_weights,
                axis=1,
            )
            for keep in (in_prompt, np.ones_like(in_prompt))
        )
        nats[start : start + len(chunk)] = before - after
        advance(len(chunk))
    return nats, np.array([len(target) for _, target in users], np.int64)
