"""K predictors of one shape become one directory, which vLLM serves with `service.engines.stacked.model`.

`config.json` is the predictors' own but for the architecture's name and `clusters`; `vocab_size` stays that of one.
There is no tokenizer, for it would have to know every cluster's prompts: k*V + page. Tensors are [K, out, in], in one
safetensors file per layer. An RMS norm's weights are folded into the matrices behind it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from service.engines.stacked.plugin import ARCHITECTURE

STACKABLE = "LlamaForCausalLM"
_REMEDY = "choose the engine vllm, which has a process per cluster"
_ABOUT_THE_FILE = frozenset({"_name_or_path", "transformers_version", "use_cache", "dtype", "torch_dtype"})
"""Keys of `config.json` that say nothing of the shape."""
_UNKNOWN = ("attention_bias", "mlp_bias", "sliding_window")
"""Of a Llama's configuration, what the stacked model does not compute."""

_Read = Callable[[str], list[torch.Tensor]]


MOST = 256
"""Predictors: their numbers travel in bfloat16, which holds larger ones only roughly."""


def check(predictors: Sequence[Path]) -> dict[str, Any]:
    """The configuration that all share. Raises `OSError`, and `ValueError`, with the remedy, for predictors that cannot
    be stacked."""
    if not predictors:
        raise ValueError("no predictor: each cluster has one")
    if len(predictors) > MOST:
        raise ValueError(f"{len(predictors)} predictors: at most {MOST} can be stacked in one vLLM: {_REMEDY}")
    configs = [json.loads((directory / "config.json").read_text()) for directory in predictors]
    first: dict[str, Any] = configs[0]
    for directory, config in zip(predictors, configs, strict=True):
        path = directory / "config.json"
        architectures = config.get("architectures")
        if architectures != [STACKABLE]:
            raise ValueError(
                f"{path}: its architecture is {', '.join(architectures or ['unknown'])}; only {STACKABLE} can be "
                f"stacked in one vLLM: {_REMEDY}"
            )
        for key in _UNKNOWN:
            if config.get(key):
                raise ValueError(f"{path}: {key} is {config[key]!r}, which cannot be stacked in one vLLM: {_REMEDY}")
        if config.get("hidden_act", "silu") != "silu":
            raise ValueError(f"{path}: hidden_act is {config['hidden_act']!r}; only silu can be stacked: {_REMEDY}")
        for key in sorted((set(config) | set(first)) - _ABOUT_THE_FILE):
            if config.get(key) != first.get(key):
                raise ValueError(
                    f"{path}: {key} is {config.get(key)!r} where cluster 0 has {first.get(key)!r}; only predictors of "
                    f"one shape can be stacked in one vLLM: {_REMEDY}"
                )
    return first


def stack(predictors: Sequence[Path], target: Path) -> Path:
    """Write the directory `target`, whole or not at all, and return it. Raises as `check` does."""
    config = check(predictors)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write_weights(partial, predictors, config)
        stacked = {
            **{key: value for key, value in config.items() if key not in ("_name_or_path", "tie_word_embeddings")},
            "architectures": [ARCHITECTURE],
            "clusters": len(predictors),
            "tie_word_embeddings": False,
        }
        (partial / "config.json").write_text(json.dumps(stacked, indent=2, sort_keys=True) + "\n")
        partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def _write_weights(directory: Path, predictors: Sequence[Path], config: dict[str, Any]) -> None:
    """One layer of all predictors is in memory at a time."""
    readers = [safe_open(path / "model.safetensors", framework="pt") for path in predictors]

    def read(name: str) -> list[torch.Tensor]:
        return [reader.get_tensor(f"{name}.weight") for reader in readers]  # type: ignore[no-untyped-call]

    places: dict[str, str] = {}

    def write(name: str, tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, directory / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(tensors, name))

    write("ends.safetensors", _ends(read, tied=bool(config.get("tie_word_embeddings", False))))
    for number in range(int(config["num_hidden_layers"])):
        write(f"layer-{number:03d}.safetensors", _layer(read, number))
    index = {"metadata": {}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _ends(read: _Read, *, tied: bool) -> dict[str, torch.Tensor]:
    """What is before the first layer and behind the last."""
    embed = read("model.embed_tokens")
    head = embed if tied else read("lm_head")
    return {"embed": torch.cat(embed), "head": _folded(head, read("model.norm"))}


def _layer(read: _Read, number: int) -> dict[str, torch.Tensor]:
    def part(name: str) -> list[torch.Tensor]:
        return read(f"model.layers.{number}.{name}")

    def joined(*names: str) -> list[torch.Tensor]:
        return [torch.cat(own) for own in zip(*(part(name) for name in names), strict=True)]

    qkv = joined("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    gate_up = joined("mlp.gate_proj", "mlp.up_proj")
    tensors = {
        "qkv": _folded(qkv, part("input_layernorm")),
        "out": torch.stack(part("self_attn.o_proj")),
        "gate_up": _folded(gate_up, part("post_attention_layernorm")),
        "down": torch.stack(part("mlp.down_proj")),
    }
    return {f"layers.{number}.{name}": tensor for name, tensor in tensors.items()}


def _folded(matrices: Sequence[torch.Tensor], norms: Sequence[torch.Tensor]) -> torch.Tensor:
    """[K, out, in]: each matrix behind a norm without weights is what it was behind that with them."""
    pairs = zip(matrices, norms, strict=True)
    return torch.stack([(matrix.float() * norm.float()).to(matrix.dtype) for matrix, norm in pairs])
