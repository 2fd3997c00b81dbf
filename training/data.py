"""A dataset on its way through training: read, tokenised, and later embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from browsing.encoder import Encoder, Vectors
from browsing.vocabulary import Vocabulary
from training.batches import Example, examples
from training.dataset import Dataset, Sample
from training.embeddings import encode
from training.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One split's samples and examples, N of each."""

    samples: list[Sample]
    examples: list[Example]

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Lengths of the next sessions, `[EOS]` counted, int64 [N]."""
        return np.array([len(e.ids) - e.target for e in self.examples], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    dataset: Dataset
    vocabulary: Vocabulary
    outcomes: dict[str, tuple[str, ...]]
    train: Split
    select: Split
    calibrate: Split

    @classmethod
    def read(cls, dataset: Dataset, settings: Settings) -> Data:
        """Raises `ValueError` for a dataset without a training sample."""
        vocabulary = dataset.vocabulary()
        groups = [dataset.samples("train"), dataset.samples("select"), dataset.samples("calibrate")]
        if not groups[0]:
            raise ValueError(f"{dataset.root}: no training sample; take a longer log, or fewer held-out users")
        splits = [Split(s, examples(s, vocabulary, settings.context, settings.max_steps)) for s in groups]
        return cls(dataset, vocabulary, dataset.outcomes(), *splits)


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """z of every split's histories under one encoder, float32 [N, d] each."""

    encoder: Encoder
    decay: float
    train: Vectors
    select: Vectors
    calibrate: Vectors

    @classmethod
    def of(cls, data: Data, encoder: Encoder, decay: float, folder: Path) -> Embedded:
        groups: list[Sequence[Sample]] = [data.train.samples, data.select.samples, data.calibrate.samples]
        encoded = encode(groups, encoder, folder)
        return cls(encoder, decay, *(encoded.pooled(samples, decay) for samples in groups))
