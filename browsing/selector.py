"""The selector (the actor): from a visitor's embedding to probabilities over the clusters (HeTLM, section 4.5)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Selector(nn.Module):
    """h_psi: z [B, dimension] -> logits [B, K], whose softmax is pi. Inputs are standardised by stored statistics."""

    mean: Tensor
    scale: Tensor
    temperature: Tensor

    def __init__(self, dimension: int, clusters: int, hidden: int = 128) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("scale", torch.ones(dimension))
        self.register_buffer("temperature", torch.ones(()))
        self.hidden = nn.Linear(dimension, hidden)
        self.output = nn.Linear(hidden, clusters)

    @property
    def dimension(self) -> int:
        return self.hidden.in_features

    @property
    def clusters(self) -> int:
        return self.output.out_features

    def forward(self, z: Tensor) -> Tensor:
        """Logits [B, K] for embeddings z [B, dimension]."""
        hidden = torch.nn.functional.gelu(self.hidden((z - self.mean) / self.scale))
        logits: Tensor = self.output(hidden) / self.temperature
        return logits

    @torch.no_grad()
    def probabilities(self, z: Tensor) -> Tensor:
        """pi [B, K] for embeddings z [B, dimension]."""
        return self.forward(z).softmax(-1)

    @torch.no_grad()
    def standardise(self, z: Tensor) -> None:
        """Take the mean and the scale of training embeddings z [N, dimension] as the input statistics."""
        self.mean.copy_(z.mean(0))
        self.scale.copy_(z.std(0).clamp_min(1e-3))

    def keep(self, clusters: list[int]) -> Selector:
        """The same selector over a subset of its clusters, in the given order (empty clusters are dropped)."""
        kept = Selector(self.dimension, len(clusters), self.hidden.out_features)
        state = self.state_dict()
        state["output.weight"] = state["output.weight"][clusters]
        state["output.bias"] = state["output.bias"][clusters]
        kept.load_state_dict(state)
        return kept

    def save(self, path: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, path)

    @classmethod
    def load(cls, path: Path) -> Selector:
        """Read `selector.safetensors`. Raises `ValueError` where its tensors are not a selector's."""
        state = load_file(path)
        try:
            hidden, dimension = state["hidden.weight"].shape
            clusters = state["output.weight"].shape[0]
            selector = cls(dimension, clusters, hidden)
            selector.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"{path.name} is not a selector: {error}") from error
        return selector.eval()
