"""Presets: the predictors' architectures, each with the training settings that suit its size.

Two small Llamas for a CPU, and the paper's families (HeTLM, section 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """An architecture, and the training settings that suit its size.

    `hub`: the checkpoint that the paper starts from. `learning_rate`, `epochs`, `batch_size`, `accumulate`, `warmup`:
    of pretraining (Table 16), one step on `accumulate` times `batch_size` samples. `tune_*` and `selector_*`: of
    actor-critic fine-tuning (Table 15). `weight_decay`, `dropout`: of the predictors in both; a family that has dropout
    of its own keeps it.
    """

    family: str
    sizes: Mapping[str, object]
    context: int
    hub: str | None
    learning_rate: float
    epochs: int
    batch_size: int
    tune_learning_rate: float
    tune_epochs: int
    tune_batch_size: int
    selector_learning_rate: float
    weight_decay: float = 0.01
    dropout: float = 0.0
    selector_weight_decay: float = 1e-4
    warmup: float = 0.05
    accumulate: int = 1


def _llama(hidden: int, layers: int, inner: int) -> dict[str, object]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": hidden // 32,  # 32 is the narrowest head that vLLM's CPU kernels have
        "tie_word_embeddings": True,
    }


def _paper(family: str, hub: str, sizes: Mapping[str, object]) -> Preset:
    return Preset(
        family=family,
        sizes=sizes,
        context=512,
        hub=hub,
        learning_rate=1e-5,
        epochs=100,
        batch_size=32,
        accumulate=4,
        tune_learning_rate=1e-5,
        tune_epochs=10,
        tune_batch_size=16,
        selector_learning_rate=5e-5,
    )


PRESETS: dict[str, Preset] = {
    "demo": Preset(
        family="llama",
        sizes=_llama(hidden=128, layers=2, inner=320),
        context=256,
        hub=None,
        learning_rate=3e-3,
        epochs=12,
        batch_size=32,
        tune_learning_rate=1e-3,
        tune_epochs=4,
        tune_batch_size=64,
        selector_learning_rate=1e-3,
        weight_decay=0.1,
        dropout=0.1,
    ),
    "small": Preset(
        family="llama",
        sizes=_llama(hidden=192, layers=4, inner=512),
        context=512,
        hub=None,
        learning_rate=1.5e-3,
        epochs=15,
        batch_size=32,
        tune_learning_rate=5e-4,
        tune_epochs=5,
        tune_batch_size=64,
        selector_learning_rate=1e-3,
        weight_decay=0.1,
        dropout=0.1,
    ),
    "opt-350m": _paper(
        "opt",
        "facebook/opt-350m",
        {
            "hidden_size": 1024,
            "word_embed_proj_dim": 512,
            "num_hidden_layers": 24,
            "ffn_dim": 4096,
            "num_attention_heads": 16,
            "do_layer_norm_before": False,
        },
    ),
    "qwen2.5-0.5b": _paper(
        "qwen2",
        "Qwen/Qwen2.5-0.5B",
        {
            "hidden_size": 896,
            "num_hidden_layers": 24,
            "intermediate_size": 4864,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        },
    ),
    "smollm2-360m": _paper(
        "llama",
        "HuggingFaceTB/SmolLM2-360M",
        {
            "hidden_size": 960,
            "num_hidden_layers": 32,
            "intermediate_size": 2560,
            "num_attention_heads": 15,
            "num_key_value_heads": 5,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
        },
    ),
}
