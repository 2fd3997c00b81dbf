"""Predictors (the critics): small causal language models over pages, as plain transformers models.

HeTLM, section 4.3, part 3. Every one has the page vocabulary as its output, so that stock `AutoModelForCausalLM` and
stock vLLM load it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from browsing.vocabulary import BOS, EOS, PAD, Vocabulary
from training.presets import Preset

_IDS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}

Weights = dict[str, Tensor]
"""A model's parameters by name, detached; tied parameters appear once."""


def build(preset: Preset, vocabulary: Vocabulary, context: int, seed: int, checkpoint: str | None = None) -> nn.Module:
    """A predictor with the page vocabulary: from scratch, or from `checkpoint` with fresh page embeddings.

    `checkpoint`: a directory, or a name on the hub. Its family must be the preset's; everything but the token
    embeddings is kept. Raises `ValueError` naming the checkpoint where it cannot be used.
    """
    torch.manual_seed(seed)
    if checkpoint is None:
        model: Any = architecture(preset, len(vocabulary), context)
    else:
        model = _from_checkpoint(checkpoint, preset, vocabulary, context)
        for name, value in _IDS.items():
            setattr(model.config, name, value)
    generation = type(model.generation_config).from_model_config(model.config)
    generation.do_sample = False
    model.generation_config = generation
    return cast(nn.Module, model)


def architecture(preset: Preset, vocabulary_size: int, context: int) -> nn.Module:
    """The preset's model with weights drawn afresh from the current random state."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        preset.family, vocab_size=vocabulary_size, max_position_embeddings=context, **_IDS, **preset.sizes
    )
    return cast(nn.Module, AutoModelForCausalLM.from_config(config, dtype=torch.float32))


def _from_checkpoint(checkpoint: str, preset: Preset, vocabulary: Vocabulary, context: int) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no usable checkpoint at {checkpoint!r}: {first} (a name needs the model hub; without it, fetch the "
            "checkpoint elsewhere, in safetensors, and give its directory: --checkpoint DIRECTORY)"
        ) from error
    if model.config.model_type != preset.family:
        raise ValueError(f"checkpoint {checkpoint!r} is a {model.config.model_type}, the preset is a {preset.family}")
    if model.config.max_position_embeddings < context:
        raise ValueError(
            f"checkpoint {checkpoint!r} has {model.config.max_position_embeddings} positions, fewer than the context "
            f"of {context}: pass --context"
        )
    model.resize_token_embeddings(len(vocabulary), mean_resizing=False)
    scale = float(getattr(model.config, "initializer_range", 0.0) or getattr(model.config, "init_std", 0.02))
    with torch.no_grad():
        # What the rows meant (words) has nothing to do with what they will mean (pages).
        for layer in {model.get_input_embeddings(), model.get_output_embeddings()}:
            layer.weight.normal_(0.0, scale)
    model.get_input_embeddings().padding_idx = None
    return model


def parameters(model: nn.Module) -> int:
    """Number of parameters, tied ones counted once."""
    return sum(p.numel() for p in model.parameters())


def live_weights(model: nn.Module) -> Weights:
    """The parameters themselves: not copied, where they are."""
    return {name: p.detach() for name, p in model.named_parameters()}


def weights_of(model: nn.Module) -> Weights:
    """A copy of the parameters, on the CPU."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters()}


@torch.no_grad()
def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Overwrite the parameters. Raises `KeyError` for one that is missing."""
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])


def save_predictor(model: nn.Module, weights: Mapping[str, Tensor], vocabulary: Vocabulary, directory: Path) -> None:
    """Write a plain Hugging Face directory with `weights`, which `model` holds from then on."""
    directory.mkdir(parents=True, exist_ok=True)
    load_weights(model, weights)
    cast(Any, model).save_pretrained(directory, max_shard_size="200GB")
    vocabulary.save(directory)
