"""The selector and the K predictors while they are being tuned, with their optimisers and the embedding dictionary."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from browsing.selector import Selector
from training.hardware import adamw
from training.hetlm.losses import mean_distance
from training.predictors import live_weights, load_weights
from training.run import adam_tensors, restore_adam, under
from training.settings import Settings


class Ensemble:
    """`centroids` [K, d] is the paper's embedding dictionary. `origins[k]` is the number that cluster k began with,
    before any were dropped. `reference` is the centroids' mean distance at the start, the unit of the scaled L3."""

    def __init__(self, selector: Selector, shared: nn.Module, centroids: Tensor, settings: Settings) -> None:
        self.settings = settings
        self.selector = selector
        # Without dropout, so that l_k of the own cluster and of the others can be compared.
        self.predictors = [copy.deepcopy(shared).eval() for _ in range(selector.clusters)]
        self.centroids = centroids
        self.reference = max(float(mean_distance(centroids)), 1e-6)
        self.origins = list(range(selector.clusters))
        self.critics = [self._critic(p) for p in self.predictors]
        self.actor = self._actor(selector)

    @property
    def clusters(self) -> int:
        return len(self.predictors)

    def _critic(self, predictor: nn.Module) -> torch.optim.AdamW:
        return adamw(predictor, self.settings.predictor_learning_rate, self.settings.predictor_weight_decay)

    def _actor(self, selector: Selector) -> torch.optim.AdamW:
        return adamw(selector, self.settings.selector_learning_rate, self.settings.selector_weight_decay)

    def keep(self, clusters: Sequence[int]) -> None:
        """Drop every cluster but these. The selector's moments are cut with its outputs."""
        moments = adam_tensors(self.actor, self.selector, "")
        for name in moments:
            if name.startswith("output.") and not name.endswith("/step"):
                moments[name] = moments[name][list(clusters)]
        self.selector = self.selector.keep(list(clusters)).to(self.centroids.device)
        self.actor = self._actor(self.selector)
        restore_adam(self.actor, self.selector, "", moments)
        self.predictors = [self.predictors[k] for k in clusters]
        self.critics = [self.critics[k] for k in clusters]
        self.centroids = self.centroids[list(clusters)]
        self.origins = [self.origins[k] for k in clusters]

    def tensors(self) -> dict[str, Tensor]:
        """Everything that an interruption must not lose, by name: no copies, the next step changes them."""
        tensors = {f"selector/{n}": t for n, t in self.selector.state_dict().items()}
        tensors |= {"centroids": self.centroids, **adam_tensors(self.actor, self.selector, "actor/")}
        for origin, predictor, critic in zip(self.origins, self.predictors, self.critics, strict=True):
            tensors |= {f"predictor/{origin}/{n}": t for n, t in live_weights(predictor).items()}
            tensors |= adam_tensors(critic, predictor, f"critic/{origin}/")
        return tensors

    def restore(self, tensors: dict[str, Tensor], origins: Sequence[int], reference: float) -> None:
        """The inverse of `tensors`, on an ensemble as it was at the start."""
        self.keep([self.origins.index(origin) for origin in origins])
        self.reference = reference
        device = self.centroids.device
        self.selector.load_state_dict(under(tensors, "selector/"))
        self.centroids = tensors["centroids"].to(device)
        restore_adam(self.actor, self.selector, "actor/", tensors)
        for origin, predictor, critic in zip(self.origins, self.predictors, self.critics, strict=True):
            load_weights(predictor, under(tensors, f"predictor/{origin}/"))
            restore_adam(critic, predictor, f"critic/{origin}/", tensors)


def hard_centroids(z: Tensor, own: Tensor, clusters: int) -> Tensor:
    """The mean embedding of each cluster's users, [K, d]; of all users for a cluster without any."""
    return torch.stack([z[own == k].mean(0) if bool((own == k).any()) else z.mean(0) for k in range(clusters)])


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
