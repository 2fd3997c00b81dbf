"""Two encoders side by side: what the pages' names say, and what the log says about the pages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from browsing.encoder import Encoder, EncoderKind, Vectors, source_sha256


class JoinedEncoder:
    """The concatenation of the parts' vectors. Each part's are of unit length, so that each weighs the same.

    Nothing is scaled here: rounding the whole and joining rounded parts give the same vector, so that each part may be
    kept by itself. `max_tokens` is the parts' largest; each reads as far as its own.
    """

    kind: EncoderKind = "both"

    def __init__(self, sbert: Encoder, predictor: Encoder) -> None:
        self.parts = (sbert, predictor)
        self.name = " and ".join(part.name for part in self.parts)
        self.dimension = sum(part.dimension for part in self.parts)
        self.weights_sha256 = _joined(*(part.weights_sha256 for part in self.parts))
        self.source_sha256 = _joined(*(source_sha256(part) for part in self.parts))
        self.tokenizer_sha256 = _joined(*(f"{part.tokenizer_sha256} {part.max_tokens}" for part in self.parts))
        self.max_tokens = max(part.max_tokens for part in self.parts)

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        return np.concatenate([part.encode(sessions) for part in self.parts], axis=1)


def _joined(*hashes: str) -> str:
    """sha256 over the parts' hashes, in order."""
    return hashlib.sha256("\0".join(hashes).encode()).hexdigest()
