"""The Markov mixture as an encoder: how much better each of its chains explains a session than the others do, and what
no first-order chain knows, how often a visitor goes back.

That evidence adds up over the sessions of a history, which is what pooling does: the posterior of the mixture is a
function of the pooled vector and the number of sessions. A few floats say more about kinds of visitors that differ in
the order of their pages than any mean over pages can.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from browsing.encoder import EncoderKind, Vectors
from browsing.hashing import file_sha256
from browsing.markov import MarkovMixture
from browsing.vocabulary import Vocabulary

LARGEST = 1_000.0
"""Nats. A session that long says enough; float16, in which vectors are kept, ends at 65,504."""
HABITS = 3
"""Floats that describe the session itself; see `habits`."""


class MarkovEncoder:
    """log p(session | component), less its mean over the components, in nats: one float per component; then `habits`.

    Not of unit length: a longer session is more evidence. An unknown page is `[UNK]`; a session is read to its end.
    """

    kind: EncoderKind = "markov"
    name = "Markov mixture"
    max_tokens = sys.maxsize

    def __init__(self, directory: Path, vocabulary: Vocabulary) -> None:
        """`directory`: where the mixture was saved, for example a bundle's `fallback/`.

        Raises `OSError` or `ValueError` where no mixture over this vocabulary is there.
        """
        self._mixture = MarkovMixture.load(directory)
        if self._mixture.vocabulary_size != len(vocabulary):
            raise ValueError(
                f"{directory}: a mixture of {self._mixture.vocabulary_size} tokens cannot read a vocabulary of "
                f"{len(vocabulary)}"
            )
        self._vocabulary = vocabulary
        self.dimension = self._mixture.components + HABITS
        self.weights_sha256 = file_sha256(directory / "markov.safetensors")
        self.tokenizer_sha256 = vocabulary.sha256

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        if not sessions:
            return np.zeros((0, self.dimension), np.float32)
        logs = self._mixture.log_likelihoods([[self._vocabulary.session(pages)] for pages in sessions])
        evidence = logs - logs.mean(1, keepdims=True)
        vectors = np.hstack([evidence, [habits(pages) for pages in sessions]])
        encoded: Vectors = vectors.clip(-LARGEST, LARGEST).astype(np.float32)
        return encoded


def habits(pages: Sequence[str]) -> tuple[int, int, int]:
    """How many pages a session has, how many of them are steps back to the page before the last, and how many were seen
    earlier in it."""
    back = sum(page == before for page, before in zip(pages[2:], pages, strict=False))
    return len(pages), back, len(pages) - len(set(pages))
