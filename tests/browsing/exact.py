"""The exact reference: every session of at most T tokens, with its probability. For vocabularies of a few pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from browsing.engines.sampling import allowed
from browsing.vocabulary import EOS

Session = tuple[tuple[int, ...], float]
"""Tokens, and their probability."""

NextTokens = Callable[[Sequence[tuple[int, ...]]], NDArray[np.float64]]
"""Prefixes of equal length -> float64 [len(prefixes), V], the model's own distribution after each."""


def table_next(table: NDArray[np.float64]) -> NextTokens:
    return lambda prefixes: table[[prefix[-1] for prefix in prefixes]]


def forward_next(directory: Path) -> NextTokens:
    """A plain `transformers` forward over whole prefixes."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True, dtype=torch.float32).eval()

    def next_tokens(prefixes: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
        with torch.inference_mode():
            probabilities = model(input_ids=torch.tensor(prefixes)).logits[:, -1].double().softmax(-1).numpy()
        return np.asarray(probabilities, np.float64)

    return next_tokens


def sessions(next_tokens: NextTokens, prompt: tuple[int, ...], max_steps: int) -> list[Session]:
    """(tokens, probability) of every session after `prompt`: ended by `[EOS]`, or `max_steps` long. They sum to 1."""
    complete: list[Session] = []
    open_: list[Session] = [((), 1.0)]
    for step in range(max_steps):
        rows = next_tokens([(*prompt, *tokens) for tokens, _ in open_])
        longer: list[Session] = []
        for (tokens, probability), row in zip(open_, rows, strict=True):
            own = allowed(row)
            for token in np.flatnonzero(own):
                session = ((*tokens, int(token)), probability * float(own[token]))
                (complete if token == EOS or step + 1 == max_steps else longer).append(session)
        open_ = longer
    return complete


def visit_probability(every: Iterable[Session], tokens: Iterable[int]) -> float:
    """The chance that at least one of `tokens` is visited."""
    wanted = set(tokens)
    return sum(probability for session, probability in every if wanted & set(session))
