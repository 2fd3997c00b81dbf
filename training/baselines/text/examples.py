"""The examples of the few-shot prompt: the training users whose input sessions are most like the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from browsing.encoder import DECAY, Encoder, Vectors, pool
from training.baselines.port import BaselineError
from training.dataset import Sample
from training.embeddings import encode_sessions

ROWS = 512
"""Users compared with all training users at once."""


class Neighbours:
    """Finds similar training users by the cosine of SBERT embeddings of their input sessions (A.4.1)."""

    def __init__(self, train: Sequence[Sample], encoder: Encoder, folder: Path) -> None:
        """`folder`: where embeddings are kept between runs. Raises `BaselineError` for no training user."""
        if not train:
            raise BaselineError("there is no training user to learn from: ask with --shots 0")
        self._train = train
        self._encoder = encoder
        self._folder = folder
        self._z = _directions(train, encoder, folder / "train")
        self._users = np.array([sample.user_id for sample in train], object)

    def of(self, samples: Sequence[Sample], count: int) -> list[list[Sample]]:
        """Per sample, the `count` most similar training samples, the most similar first; never the user's own."""
        z = _directions(samples, self._encoder, self._folder / "asked")
        found: list[list[Sample]] = []
        for start in range(0, len(samples), ROWS):
            likeness: NDArray[np.float32] = z[start : start + ROWS] @ self._z.T
            for sample, row in zip(samples[start : start + ROWS], likeness, strict=True):
                row[self._users == sample.user_id] = -np.inf
                order = np.argsort(-row, kind="stable")[:count]
                found.append([self._train[place] for place in order if row[place] > -np.inf])
        return found


def _directions(samples: Sequence[Sample], encoder: Encoder, folder: Path) -> Vectors:
    """The pooled embedding of every sample's input sessions, of unit length, float32 [n, d]."""
    # Sessions of like length together: an encoder pads a batch to its longest.
    distinct = sorted({session for sample in samples for session in sample.history}, key=lambda s: (len(s), s))
    places = {session: place for place, session in enumerate(distinct)}
    vectors = encode_sessions(distinct, encoder, folder)
    z = np.stack([pool(vectors[[places[session] for session in sample.history]], DECAY) for sample in samples])
    unit: Vectors = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    return unit
