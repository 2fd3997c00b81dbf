"""What vLLM finds under its entry points (`vllm.general_plugins`): it makes the stacked model known by its name."""

from __future__ import annotations

GROUP = "vllm.general_plugins"
PLUGIN = "hetlm-stacked"
"""The entry point's name, by which `VLLM_PLUGINS` lets it in."""
ARCHITECTURE = "HetlmStackedLlamaForCausalLM"
"""What a stacked directory's `config.json` calls its model."""


def register() -> None:
    """Called by vLLM in each of its processes, perhaps more than once. The model itself is imported where it runs."""
    from vllm import ModelRegistry

    ModelRegistry.register_model(ARCHITECTURE, "service.engines.stacked.model:StackedLlama")
