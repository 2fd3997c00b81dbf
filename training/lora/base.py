"""The base model with fresh adapters, and what optimises them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from training.lora.data import PLAIN_TEMPLATE, Tokenizer
from training.lora.settings import LoraSettings


class LoraError(ValueError):
    """A base model or a machine that cannot be fine-tuned with these settings; the message gives the remedy."""


def check_machine(settings: LoraSettings, device: torch.device) -> None:
    """Raises `LoraError` where a library or a GPU is missing."""
    if importlib.util.find_spec("peft") is None:
        raise LoraError("peft is not installed: pip install 'hetlm[lora]'")
    if not settings.eight_bit:
        return
    if device.type != "cuda":
        raise LoraError(
            "Table 17 loads the base model in 8 bits, which needs a GPU: pass --no-eight-bit to train a small model on "
            "this device in 32 bits"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise LoraError("bitsandbytes, which loads a model in 8 bits, is not installed: pip install bitsandbytes")


def load_tokenizer(base: str) -> Tokenizer:
    """The base model's tokenizer, with a plain chat template where it has none. Raises `LoraError`."""
    from transformers import AutoTokenizer

    try:
        tokenizer = cast(Tokenizer, AutoTokenizer.from_pretrained(base))
    except (OSError, ValueError) as error:
        raise LoraError(f"--base {base}: no tokenizer could be loaded from there: {_first(error)}") from error
    if tokenizer.eos_token_id is None:
        raise LoraError(f"--base {base}: its tokenizer has no end-of-sequence token, so that no answer would ever end")
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def load_model(base: str, settings: LoraSettings, device: torch.device) -> nn.Module:
    """The base model with adapters on every linear layer, the only parameters that learn. Raises `LoraError`."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {"dtype": torch.bfloat16 if device.type == "cuda" else torch.float32}
    if settings.eight_bit:
        options |= {"quantization_config": BitsAndBytesConfig(load_in_8bit=True), "device_map": {"": device}}
    try:
        model = AutoModelForCausalLM.from_pretrained(base, use_safetensors=True, **options)
    except (OSError, ValueError) as error:
        raise LoraError(f"--base {base}: no model could be loaded from there: {_first(error)}") from error
    model = (
        cast(Callable[[Any], Any], prepare_model_for_kbit_training)(model) if settings.eight_bit else model.to(device)
    )
    torch.manual_seed(settings.seed)
    return cast(
        nn.Module,
        get_peft_model(
            model,
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,
                lora_dropout=settings.dropout,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        ),
    )


def optimizer_of(settings: LoraSettings) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """AdamW: bitsandbytes' 8-bit one as in the table, or PyTorch's."""

    def build(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        if settings.eight_bit:
            kind = importlib.import_module("bitsandbytes.optim").AdamW8bit
            eight: torch.optim.Optimizer = kind(
                parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
            )
            return eight
        return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)

    return build


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
