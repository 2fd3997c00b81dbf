"""The encoder port f_theta: each session alone becomes a vector, a history their pooled mean (HeTLM, section 4.3,
part 1).

Encoders are frozen: they are no part of what the actor and the critics learn. `browsing.encoders` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

DECAY = 0.8
"""Weight of a session relative to the next newer one when a history is pooled, where nobody chose another."""

EncoderKind = Literal["sbert", "predictor", "both", "markov"]
"""What reads a session: SBERT its pages' names, the shared predictor, both of these, or the Markov mixture."""
EncoderChoice = Literal["torch", "int8", "auto"]
"""How SBERT computes: in float32, in 8-bit integers, or in these where the CPU multiplies them fast."""
Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Encodes sessions one by one. Deterministic: a session's vector does not depend on what it is encoded with, but
    for the rounding of float sums (1e-5; in int8 up to 4e-3, where that tips a value to its next step).

    `kind` and `name` go into a bundle's manifest. Equal `weights_sha256`, `tokenizer_sha256` and `max_tokens` mean
    equal vectors: these three are in every key under which a vector is kept. `max_tokens`: of a longer session only so
    much is read.
    """

    @property
    def kind(self) -> EncoderKind: ...

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def weights_sha256(self) -> str: ...

    @property
    def tokenizer_sha256(self) -> str: ...

    @property
    def max_tokens(self) -> int: ...

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        """One vector per session, float32 [len(sessions), dimension]."""


@runtime_checkable
class Rounded(Protocol):
    """An encoder that computes with other weights than those that it was made of, which `source_sha256` names."""

    @property
    def source_sha256(self) -> str: ...


def source_sha256(encoder: Encoder) -> str:
    """The weights that a bundle's manifest means: those that selectors are trained with, before any rounding."""
    return encoder.source_sha256 if isinstance(encoder, Rounded) else encoder.weights_sha256


def pool(vectors: Vectors, decay: float) -> Vectors:
    """z of a history: the weighted mean of its sessions' vectors [n, d], oldest first; the newest has weight 1,
    each older one `decay` times the weight of the next. Returns [d]. Raises `ValueError` for no session."""
    if len(vectors) == 0:
        raise ValueError("an empty history has no embedding")
    weights = decay ** np.arange(len(vectors) - 1, -1, -1, dtype=np.float32)
    pooled: Vectors = (weights @ vectors / weights.sum()).astype(np.float32)
    return pooled


def rounded(vectors: Vectors) -> Vectors:
    """Session vectors as the service's cache keeps them: through float16 and back. Everything that pools vectors rounds
    them first, so that a visitor is routed alike in training, in evaluation, and from a full or an empty cache."""
    return vectors.astype(np.float16).astype(np.float32)
