"""The mixture's clusters while they are being trained, and what of them a run keeps to go on from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from training.hardware import adamw
from training.owners import Floats
from training.predictors import load_weights, weights_of
from training.run import adam_tensors, restore_adam, under


def sizes_of(resp: Floats) -> list[int]:
    """How many users each cluster is the likeliest of. `resp` [N, K]."""
    sizes: list[int] = np.bincount(resp.argmax(1), minlength=resp.shape[1]).tolist()
    return sizes


@dataclass(slots=True)
class Clusters:
    """The K predictors while they are being trained. `origins[k]` names cluster k for good; a merged one is new, and
    `named` is the next free name. `weights` float64 [K]; `resp` [N, K]: of the training users. `merged`: this round's,
    from a name to the one that it became; `trajectory`: K after each round."""

    predictors: list[nn.Module]
    critics: list[torch.optim.AdamW]
    origins: list[int]
    weights: Floats
    resp: Floats
    named: int
    merged: dict[int, int] = field(default_factory=dict)
    trajectory: list[int] = field(default_factory=list)

    @classmethod
    def begin(cls, shared: nn.Module, start: Floats, rate: float, decay: float) -> Self:
        """Copies of the shared predictor for the clusters of `start` [N, K] that anybody is most likely of.

        `rate` and `decay` are AdamW's.
        """
        used = [k for k, size in enumerate(sizes_of(start)) if size]
        resp = start[:, used] / np.maximum(start[:, used].sum(1, keepdims=True), 1e-12)
        predictors = [copy.deepcopy(shared).eval() for _ in used]
        critics = [adamw(p, rate, decay) for p in predictors]
        return cls(predictors, critics, list(used), resp.mean(0), resp, start.shape[1])

    def heir(self, origin: int) -> int:
        """The cluster that `origin` has become by this round's merges."""
        while origin in self.merged:
            origin = self.merged[origin]
        return origin

    def keep(self, places: Sequence[int]) -> None:
        """Only the clusters at `places`; weights and responsibilities sum to one again."""
        self.predictors = [self.predictors[k] for k in places]
        self.critics = [self.critics[k] for k in places]
        self.origins = [self.origins[k] for k in places]
        self.weights = self.weights[list(places)] / self.weights[list(places)].sum()
        resp = self.resp[:, list(places)]
        self.resp = resp / np.maximum(resp.sum(1, keepdims=True), 1e-12)

    def document(self) -> dict[str, Any]:
        """What `restore` needs besides `tensors`."""
        return {"origins": self.origins, "named": self.named, "trajectory": self.trajectory}

    def tensors(self) -> dict[str, Tensor]:
        """Weights, responsibilities, and by each cluster's name its predictor and its optimiser's moments."""
        tensors = {"resp": torch.from_numpy(self.resp), "weights": torch.from_numpy(self.weights)}
        for origin, predictor, critic in zip(self.origins, self.predictors, self.critics, strict=True):
            tensors |= {f"predictor/{origin}/{n}": t for n, t in weights_of(predictor).items()}
            tensors |= adam_tensors(critic, predictor, f"critic/{origin}/")
        return tensors

    def restore(self, tensors: dict[str, Tensor], document: Mapping[str, Any], rate: float, decay: float) -> None:
        """The inverse of `tensors` and `document`, on clusters as they were at the beginning."""
        shared = self.predictors[0]
        self.origins = [int(o) for o in document["origins"]]
        self.named, self.trajectory = int(document["named"]), [int(k) for k in document["trajectory"]]
        self.resp, self.weights = tensors["resp"].numpy(), tensors["weights"].numpy()
        self.predictors, self.critics = [], []
        for origin in self.origins:
            predictor = copy.deepcopy(shared).eval()
            load_weights(predictor, under(tensors, f"predictor/{origin}/"))
            critic = adamw(predictor, rate, decay)
            restore_adam(critic, predictor, f"critic/{origin}/", tensors)
            self.predictors.append(predictor)
            self.critics.append(critic)
