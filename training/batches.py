"""From samples to token batches: `[BOS] s1 [EOS] [BOS] s2 [EOS] ... [BOS] target [EOS]`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from browsing.vocabulary import BOS, PAD, Vocabulary
from training.dataset import Sample

BUCKET = 32
"""Batches whose samples are sorted by length together: enough to waste little padding, few enough to stay mixed."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sample as ids. `ids[:target]` is the prompt, which ends in `[BOS]`; `ids[target:]` is the next session."""

    ids: tuple[int, ...]
    target: int

    @property
    def pair(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.ids[: self.target], self.ids[self.target :]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """`rows` [B]: places in the list of examples. `ids` int64 [B, T], padded on the right. `scored` bool [B, T]: every
    token but `[BOS]` and padding. `target` bool [B, T]: the next session's tokens, `[EOS]` included."""

    rows: Tensor
    ids: Tensor
    scored: Tensor
    target: Tensor


def example(sample: Sample, vocabulary: Vocabulary, context: int, max_steps: int) -> Example:
    """The history is cut as at serving, to leave room for `max_steps`; a longer target ends where the context does."""
    prompt = vocabulary.prompt(sample.history, context - max_steps).ids
    target = vocabulary.session(sample.next_session)[1:]
    return Example((*prompt, *target)[:context], len(prompt))


def examples(samples: Sequence[Sample], vocabulary: Vocabulary, context: int, max_steps: int) -> list[Example]:
    return [example(s, vocabulary, context, max_steps) for s in samples]


def cover(samples: Sequence[Sample], examples: Sequence[Example]) -> NDArray[np.int64]:
    """Rows of the samples that together hold every session of their users, int64 [M], in order.

    With several samples per user the histories are nested: trained on all of them, a predictor would see a user's first
    session once per sample, and learn it by heart. From a user's newest sample on, one is taken unless its next session
    lies within the history of one that was. `examples`: of the same samples; they say how much of a history is kept.
    """
    rows: list[int] = []
    reached: dict[str, datetime] = {}
    for row in sorted(range(len(samples)), key=lambda row: samples[row].next_started_at, reverse=True):
        sample, kept = samples[row], examples[row].ids[: examples[row].target - 1].count(BOS)
        if sample.user_id in reached and sample.next_started_at >= reached[sample.user_id]:
            continue
        rows.append(row)
        reached[sample.user_id] = (*sample.history_started_at, sample.next_started_at)[-1 - kept]
    return np.sort(np.array(rows, np.int64))


def collate(items: Sequence[Example], rows: NDArray[np.int64], device: torch.device) -> Batch:
    taken = [items[row] for row in rows.tolist()]
    length = np.array([[len(item.ids)] for item in taken])
    place = np.arange(length.max())
    held = place < length
    ids = np.full(held.shape, PAD)
    ids[held] = np.fromiter(chain.from_iterable(item.ids for item in taken), np.int64, int(length.sum()))
    target = held & (place >= np.array([[item.target] for item in taken]))
    scored = (ids != PAD) & (ids != BOS)
    tensors = (torch.from_numpy(array).to(device) for array in (ids, scored, target))
    return Batch(torch.from_numpy(rows), *tensors)


def epoch_rows(lengths: NDArray[np.int64], batch_size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The batches of one epoch: every row once, in a random order that is a function of `seed`, rows of similar length
    together."""
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(shuffled), batch_size * BUCKET):
        bucket = shuffled[start : start + batch_size * BUCKET]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    for place in generator.permutation(len(batches)):
        yield batches[place]


def seed_of(*parts: object) -> int:
    """A seed in [0, 2^63) for a purpose, for example `seed_of(7, "pretrain", epoch)`."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
