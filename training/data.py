"""A dataset on its way through training: read, tokenised, and later embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from browsing.encoder import Encoder, Vectors
from browsing.vocabulary import Vocabulary
from training.batches import Example, cover, examples
from training.dataset import Dataset, Sample
from training.embeddings import encode
from training.evaluation.metrics.bootstrap import groups_of
from training.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One split's samples and examples, N of each. `cover`: rows of those that hold everything once, int64 [M]."""

    samples: list[Sample]
    examples: list[Example]
    cover: NDArray[np.int64]

    @classmethod
    def of(cls, samples: list[Sample], vocabulary: Vocabulary, settings: Settings) -> Split:
        items = examples(samples, vocabulary, settings.context, settings.max_steps)
        return cls(samples, items, cover(samples, items))

    @property
    def once(self) -> list[Example]:
        """The examples of `cover`: what is trained on where every token is scored."""
        return [self.examples[row] for row in self.cover]

    @property
    def owner(self) -> NDArray[np.int64]:
        """The number of each sample's user, from 0 in the order of appearance, int64 [N]."""
        return groups_of([sample.user_id for sample in self.samples])

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
        splits = [Split.of(samples, vocabulary, settings) for samples in groups]
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
