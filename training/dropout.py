"""Dropout for predictors whose architecture has none: a small log is soon learnt by heart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

_BRANCHES = ("self_attn", "mlp")
"""The residual branches of a decoder layer, as Llama and Qwen name them."""


@contextmanager
def dropping(model: nn.Module, rate: float) -> Iterator[None]:
    """Within, the token embeddings and every residual branch of `model` lose a share `rate` of their values (Srivastava
    et al., 2014), drawn from torch's random state. The weights' names and the saved model know nothing of it."""
    if not rate:
        yield
        return

    def drop(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        if isinstance(output, tuple):
            return F.dropout(output[0], rate), *output[1:]
        return F.dropout(output, rate)

    places = [module for name, module in model.named_modules() if name.rpartition(".")[2] in _BRANCHES]
    places.append(cast(Any, model).get_input_embeddings())
    hooks = [place.register_forward_hook(drop) for place in places]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
