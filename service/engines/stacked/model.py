"""K Llamas of one shape as one vLLM model.

A prompt of cluster k has the ids k*V + page; what is sampled, watched and forbidden are plain pages, so that vLLM's
sampler works on V columns as it does for a single predictor, with the same random numbers. Which cluster a sampled page
belongs to is therefore not in its id: it is kept beside the KV cache (`service.engines.stacked.owners`). Attention and
the KV cache are vLLM's own and common to all; every product goes through the row's own cluster's weights alone, rows
sorted by cluster (`service.engines.stacked.grouped`). To find the output matrix again, the cluster's number is one more
column of the hidden states.

Shapes are static and nothing is read back from the device, so that vLLM's CUDA graphs of whole decoding steps can hold
it. Norms have no weights here: stacking has folded them into the matrices that follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.rotary_embedding import get_rope

from service.engines.stacked.grouped import Groups, product
from service.engines.stacked.owners import Owners


class _Sequences(Protocol):
    """What the metadata of vLLM's attention back-ends with a block table have in common."""

    query_start_loc: torch.Tensor
    block_table: torch.Tensor


class StackedLayer(nn.Module):
    """One layer of all K predictors. Weights are [K, out, in]."""

    def __init__(self, vllm_config: VllmConfig, prefix: str) -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        clusters, hidden, inner = config.clusters, config.hidden_size, config.intermediate_size
        heads, kv_heads, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.sizes = [heads * width, kv_heads * width, kv_heads * width]
        self.qkv = _weights(clusters, sum(self.sizes), hidden)
        self.out = _weights(clusters, hidden, heads * width)
        self.gate_up = _weights(clusters, 2 * inner, hidden)
        self.down = _weights(clusters, hidden, inner)
        self.norm = RMSNorm(hidden, eps=config.rms_norm_eps, has_weight=False)
        self.silu_and_mul = SiluAndMul()
        self.rope = get_rope(
            width,
            max_position=config.max_position_embeddings,
            rope_parameters=config.rope_parameters,
            is_neox_style=True,
        )
        self.attention = Attention(
            heads,
            width,
            width**-0.5,
            num_kv_heads=kv_heads,
            cache_config=vllm_config.cache_config,
            prefix=f"{prefix}.attn",
        )

    def forward(
        self, positions: torch.Tensor, rows: torch.Tensor, residual: torch.Tensor, groups: Groups
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`rows` and `residual` [T, hidden] are sorted by cluster, `positions` [T] are not: attention is computed in
        the order of the requests."""
        rows, residual = self.norm(rows, residual)
        q, k, v = torch.split(product(rows, self.qkv, groups)[groups.place], self.sizes, dim=-1)
        q, k = self.rope(positions, q, k)
        rows = product(self.attention(q, k, v)[groups.order], self.out, groups)
        rows, residual = self.norm(rows, residual)
        rows = product(self.silu_and_mul(product(rows, self.gate_up, groups)), self.down, groups)
        return rows, residual


class StackedLlama(nn.Module):
    """What `service.engines.stacked.stacking.stack` writes. Its configuration's `vocab_size` is V, of one predictor."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        """Raises `ValueError` if it is to be spread over several devices, or the KV cache's size is not given."""
        super().__init__()
        config = vllm_config.model_config.hf_config
        if vllm_config.parallel_config.world_size != 1:
            raise ValueError("stacked predictors run on one device: leave tensor and pipeline parallelism at 1")
        self.clusters: int = config.clusters
        self.pages: int = config.vocab_size
        self.embed = _weights(self.clusters * self.pages, config.hidden_size)
        self.layers = nn.ModuleList(
            StackedLayer(vllm_config, f"{prefix}layers.{i}") for i in range(config.num_hidden_layers)
        )
        self._first_attention = f"{prefix}layers.0.attn"
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps, has_weight=False)
        self.head = _weights(self.clusters, self.pages, config.hidden_size)
        self.owners = Owners(self.pages, _most_blocks(vllm_config))

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.embed[input_ids]

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        intermediate_tensors: object = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[T, hidden + 1]: the last hidden states, normed, and each row's cluster."""
        clusters = self._clusters_of(input_ids, positions)
        groups = Groups.of(clusters, self.clusters)
        rows = self.embed[(clusters * self.pages + input_ids % self.pages)[groups.order]]
        residual = torch.zeros_like(rows)
        for layer in self.layers:
            rows, residual = layer(positions, rows, residual, groups)
        rows, _ = self.norm(rows, residual)
        return torch.cat([rows[groups.place], clusters[:, None].to(rows.dtype)], dim=1)

    def _clusters_of(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Int64 [T]: each row's cluster."""
        context = get_forward_context().attn_metadata
        if context is None:  # vLLM measures its memory
            return torch.clamp(ids.long() // self.pages, max=self.clusters - 1)
        metadata = cast("dict[str, _Sequences]", context)[self._first_attention]
        clusters: torch.Tensor = self.owners(ids, positions, metadata.query_start_loc, metadata.block_table)
        return clusters

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[N, V]: of each row's own cluster."""
        groups = Groups.of(hidden_states[:, -1].round().long(), self.clusters)
        return product(hidden_states[groups.order, :-1], self.head, groups)[groups.place]

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Raises `ValueError` for a tensor that does not belong here."""
        own = dict(self.named_parameters())
        loaded = set()
        for name, tensor in weights:
            if name not in own or own[name].shape != tensor.shape:
                raise ValueError(f"{name} {list(tensor.shape)} is no tensor of these stacked predictors")
            own[name].data.copy_(tensor)
            loaded.add(name)
        return loaded


def _weights(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape), requires_grad=False)


def _most_blocks(vllm_config: VllmConfig) -> int:
    """No KV cache of the size that was given has more blocks, however small they and its numbers are."""
    config, given = vllm_config.model_config.hf_config, vllm_config.cache_config.kv_cache_memory_bytes
    if given is None:
        raise ValueError("stacked predictors need the KV cache's size: --kv-cache-memory-bytes")
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return int(given // values) + 1
