"""The pretrained predictor as an encoder: the mean of its hidden states over a session.

Users encoded by an autoregressive model of their own activity, as User-LLM does; here every session alone, so that a
vector can be kept and shared like any other. It needs no names: what a page means is what the log says about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from browsing.encoder import EncoderKind, Vectors
from browsing.hashing import file_sha256
from browsing.vocabulary import PAD, Vocabulary

BATCH_TOKENS = 2048
"""Tokens, padding included, that the model reads at once: small enough for the cache of a CPU."""


class PredictorEncoder:
    """The unit-length mean, over a session's pages and its `[EOS]`, of a causal language model's last hidden states.

    The model reads `[BOS] pages [EOS]`; the state at `[BOS]` is the same in every session and left out. An unknown page
    is `[UNK]`. A session longer than the model's context keeps its newest pages, as a prompt does.
    """

    kind: EncoderKind = "predictor"
    name = "shared predictor"

    def __init__(self, directory: Path, device: torch.device | str = "cpu") -> None:
        """`directory`: a plain Hugging Face directory, for example a bundle's `shared/`, read as float32.

        Raises `OSError` or `ValueError` where it is no causal language model of pages.
        """
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        model = AutoModelForCausalLM.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, dtype=torch.float32, attn_implementation="sdpa"
        )
        self._set(
            cast(nn.Module, model.to(device)),
            Vocabulary.load(directory / "tokenizer.json"),
            file_sha256(directory / "model.safetensors"),
        )

    @classmethod
    def from_model(cls, model: nn.Module, vocabulary: Vocabulary, weights_sha256: str) -> PredictorEncoder:
        """A model in memory, on its own device, in the precision that it has; it is not copied, so it must not change
        while it encodes. `weights_sha256`: of the `model.safetensors` that it is, or will be, saved as.

        Raises `ValueError` where the model is not one of this vocabulary.
        """
        encoder = cls.__new__(cls)
        encoder._set(model, vocabulary, weights_sha256)
        return encoder

    def _set(self, model: nn.Module, vocabulary: Vocabulary, weights_sha256: str) -> None:
        table = cast(Any, model).get_input_embeddings().weight
        if len(table) != len(vocabulary):
            raise ValueError(f"a model of {len(table)} tokens cannot read a vocabulary of {len(vocabulary)}")
        self._model = model
        self._vocabulary = vocabulary
        self.dimension = int(cast(Any, model).get_output_embeddings().weight.shape[1])
        self.max_tokens = int(cast(Any, model).config.max_position_embeddings)
        self.weights_sha256 = weights_sha256
        self.tokenizer_sha256 = vocabulary.sha256

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        rows = [self._ids(pages) for pages in sessions]
        vectors = np.zeros((len(rows), self.dimension), np.float32)
        was_training = self._model.training
        self._model.eval()
        try:
            for batch in _batches([len(ids) for ids in rows]):
                vectors[batch] = self._means([rows[row] for row in batch])
        finally:
            self._model.train(was_training)
        return vectors

    def _ids(self, pages: Sequence[str]) -> list[int]:
        ids = self._vocabulary.session(pages)
        return ids if len(ids) <= self.max_tokens else [ids[0], *ids[len(ids) - self.max_tokens + 1 :]]

    @torch.inference_mode()
    def _means(self, rows: Sequence[Sequence[int]]) -> Vectors:
        width = max(map(len, rows))
        padded = np.full((len(rows), width), PAD)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row
        ids = torch.from_numpy(padded).to(next(self._model.parameters()).device)
        # Padded on the right: a causal model never looks there.
        hidden: Tensor = cast(Any, self._model).base_model(input_ids=ids, use_cache=False).last_hidden_state
        read = ids.ne(PAD)
        read[:, 0] = False  # [BOS]
        means = hidden.float().where(read.unsqueeze(-1), 0.0).sum(1)
        vectors: Vectors = F.normalize(means, dim=-1).cpu().numpy()
        return vectors


def _batches(lengths: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """Places of rows that are read together: of similar length, at most `BATCH_TOKENS` tokens with their padding."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > BATCH_TOKENS:
            yield order[start:end]
            start = end
