"""How much arithmetic a prediction needs: counted from the model's shape and the lengths of prompt and paths.

The least that any engine computes without knowing the answer: the prompt once, every sampled page once, and nothing for
rows that have ended. Multiplications and additions of matrix products count, one each; normalisations, softmax and
sampling do not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GATED = ("llama", "qwen2", "mistral")
"""Families with three matrices in their feed-forward layers."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a decoder: widths in floats. `queries`, `keys`: all heads together."""

    layers: int
    hidden: int
    inner: int
    queries: int
    keys: int
    vocabulary: int

    @classmethod
    def read(cls, predictor: Path) -> Shape:
        """From a predictor's `config.json`. Raises `ValueError` for a family whose matrices are not known here."""
        config: dict[str, Any] = json.loads((predictor / "config.json").read_text())
        if config.get("model_type") not in GATED:
            raise ValueError(f"{predictor}: a {config.get('model_type')}, whose operations are not known here")
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        width = int(config.get("head_dim") or hidden // heads)
        return cls(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            queries=heads * width,
            keys=int(config.get("num_key_value_heads") or heads) * width,
            vocabulary=int(config["vocab_size"]),
        )

    @property
    def token(self) -> int:
        """Operations of one token in all layers, but for attention and the output."""
        projections = 2 * self.hidden * self.queries + 2 * self.hidden * self.keys
        return 2 * self.layers * (projections + 3 * self.hidden * self.inner)

    @property
    def output(self) -> int:
        """Of one distribution over the vocabulary."""
        return 2 * self.hidden * self.vocabulary

    def attention(self, seen: int) -> int:
        """Of a token that attends to `seen` tokens, itself among them."""
        return 4 * self.layers * self.queries * seen

    def prefill(self, prompt: int) -> int:
        """Of reading `prompt` tokens, and the distribution after the last."""
        return prompt * self.token + self.attention(prompt * (prompt + 1) // 2) + self.output

    def path(self, prompt: int, length: int) -> int:
        """Of `length` sampled tokens after the prompt, whose first one comes from the prefill; the last is not read."""
        read = length - 1
        seen = read * prompt + read * (read + 1) // 2
        return read * (self.token + self.output) + self.attention(seen)

    def prediction(self, prompt: int, lengths: Sequence[int]) -> int:
        """Of all paths of one prediction, which share one prefill."""
        return self.prefill(prompt) + sum(self.path(prompt, length) for length in lengths)
