"""What a model is recognised by: the probabilities that it gives to some ids at the start of a session."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from browsing.engine import MAX_WATCHED
from browsing.vocabulary import EOS, NEVER

_LEAST = 1e-3
_TOLERANCE = 0.25
"""In logarithms: far above what batching or bfloat16 does to a probability, far below the distance of two models."""


def watched(vocabulary_size: int) -> tuple[int, ...]:
    """`[EOS]`, the last id, and others evenly spread between: as many as may be watched."""
    last = vocabulary_size - 1
    spread = np.linspace(len(NEVER), last, MAX_WATCHED - 2).astype(int).tolist()
    return tuple(dict.fromkeys((EOS, last, *spread)))


class Fingerprint:
    """Of one cluster's model. Several servers that share it must be servers of one model."""

    def __init__(self) -> None:
        self._seen: NDArray[np.float64] | None = None

    def matches(self, probabilities: NDArray[np.float64]) -> bool:
        """Whether this is what was seen first, which is remembered. `probabilities` [n], always of the same ids."""
        if self._seen is None:
            self._seen = probabilities.copy()
        likely = np.maximum(self._seen, probabilities) > _LEAST
        distance = np.abs(np.log(np.maximum(self._seen, 1e-9)) - np.log(np.maximum(probabilities, 1e-9)))
        return bool((distance[likely] < _TOLERANCE).all())
