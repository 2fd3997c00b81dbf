"""Predictors of random weights that browse like trained ones: as undecided, and with sessions as long.

What an engine costs depends on shapes and on the lengths of paths. Weights as they are usually drawn give every page
the same chance and hardly ever end a session. Here the output's spread is that of a trained predictor, and `[EOS]` has
a direction of its own, whose strength is fitted to a mean length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from browsing.vocabulary import BOS, EOS, NEVER, PAD, Vocabulary

HEAD = 32
"""Floats of an attention head: the narrowest that vLLM has kernels for on a CPU."""
END = 1 / 8
"""Chance that a session ends after a page."""
SPREAD = 2.7
"""Standard deviation of the logits: perplexity falls by exp(SPREAD ** 2 / 2) from the vocabulary's size."""
ALONG = 3.0
"""Of every token's embedding in the direction that leads to the end."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a Llama."""

    hidden: int
    layers: int
    inner: int

    def parameters(self, vocabulary: int) -> int:
        layer = 4 * self.hidden**2 + 3 * self.hidden * self.inner + 2 * self.hidden
        return self.layers * layer + 2 * vocabulary * self.hidden + self.hidden

    def times(self, factor: int, vocabulary: int) -> Size:
        """The narrowest of as many layers with at least `factor` times the parameters."""
        wanted, hidden = factor * self.parameters(vocabulary), self.hidden
        while (grown := Size(hidden, self.layers, self.inner * hidden // self.hidden)).parameters(vocabulary) < wanted:
            hidden += HEAD
        return grown

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Size:
        """Raises `ValueError` for anything but a Llama."""
        if config.get("model_type") != "llama":
            raise ValueError(f"a {config.get('model_type')}: comparisons of several sizes and numbers need Llamas")
        return cls(int(config["hidden_size"]), int(config["num_hidden_layers"]), int(config["intermediate_size"]))


SIZES: dict[str, Size] = {"demo": Size(128, 2, 320), "small": Size(192, 4, 512)}
"""As `hetlm train --preset` has them."""


def write(
    directory: Path, vocabulary: Vocabulary, size: Size, context: int, prompts: Sequence[Sequence[int]], seed: int
) -> None:
    """A plain Hugging Face directory. `prompts`: after which the chance of an end is fitted."""
    import torch
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM

    transformers.utils.logging.disable_progress_bar()  # the bars here are our own
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // HEAD,
        num_key_value_heads=size.hidden // HEAD,
        max_position_embeddings=context,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(config).eval()
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding.normal_()
        embedding[:, 0] = ALONG
        head.normal_(std=SPREAD / size.hidden**0.5)
        head[:, 0] = 0.0
        states = torch.cat([model.model(torch.tensor([list(prompt)])).last_hidden_state[0] for prompt in prompts])
        head[EOS, 0] = _strength(states @ head.T, states[:, 0])
        directory.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(directory)
    vocabulary.save(directory)


def _strength(logits: Any, along: Any) -> float:
    """By halving, what `along` [N] must be multiplied with so that, added to the logits [N, V] of `[EOS]`, it makes
    an end as likely as wished, on average."""
    logits[:, list(NEVER)] = -float("inf")
    low, high = -50.0, 50.0
    for _ in range(40):
        middle = (low + high) / 2
        tried = logits.clone()
        tried[:, EOS] += middle * along
        if float(tried.softmax(-1)[:, EOS].mean()) < END:
            low = middle
        else:
            high = middle
    return (low + high) / 2
