"""Early stopping per cluster: which epoch of each predictor, and which epoch's selector, is kept.

Everything is decided on selection users, who train nothing. The shared predictor is every cluster's epoch 0, so that
what is kept is never worse than it on them: a cluster of a few hundred users overfits soon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.predictors import Weights, weights_of

SHARED = "shared"
Nats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """One predictor at one epoch. `nats` [S]: its summed loss on every selection user's next session."""

    name: str
    epoch: int
    weights: Weights
    nats: Nats


@dataclass(frozen=True, slots=True, eq=False)
class System:
    """A whole that can be served: a selector, and one kept version per cluster. `loss`: nats per page on the selection
    users, each under the predictor that the selector gives it."""

    epoch: int
    selector: dict[str, Tensor]
    versions: list[Version]
    loss: float


@dataclass(slots=True)
class Keeper:
    """Kept versions by a cluster's origin, and the best system so far."""

    shared: Version
    tokens: NDArray[np.int64]
    kept: dict[int, Version] = field(default_factory=dict)
    best: System | None = None

    def offer(
        self,
        epoch: int,
        selector: dict[str, Tensor],
        predictors: list[nn.Module],
        origins: list[int],
        own: NDArray[np.int64],
        nats: Nats,
    ) -> System:
        """The system after this epoch. `own` [S]: clusters of the selection users; `nats` [S, K]: their losses under
        the predictors as they are now. Among a cluster's kept version, its newest and the shared one, the best on the
        users that are now its own is kept; on a tie, or where it has no such user, the earlier."""
        kept: dict[int, Version] = {}
        for k, (origin, predictor) in enumerate(zip(origins, predictors, strict=True)):
            mine = own == k
            choice = min(
                (self.shared, self.kept.get(origin, self.shared)), key=lambda v: (float(v.nats[mine].sum()), v.epoch)
            )
            if not len(self.tokens) or float(nats[mine, k].sum()) < float(choice.nats[mine].sum()):
                choice = Version(f"{origin}@{epoch}", epoch, weights_of(predictor), nats[:, k].copy())
            kept[origin] = choice
        self.kept = kept
        versions = [kept[origin] for origin in origins]
        loss = sum(float(v.nats[own == k].sum()) for k, v in enumerate(versions)) / max(int(self.tokens.sum()), 1)
        state = {name: tensor.detach().cpu().clone() for name, tensor in selector.items()}
        system = System(epoch, state, versions, loss)
        # Without any selection user nothing can be compared: the last epoch stands.
        if self.best is None or system.loss < self.best.loss or not len(self.tokens):
            self.best = system
        return system

    def tensors(self) -> dict[str, Tensor]:
        """The kept weights, each version once, and the best system's selector."""
        versions = {v.name: v for v in [*self.kept.values(), *(self.best.versions if self.best else [])]}
        versions.pop(SHARED, None)
        tensors = {f"version/{v.name}/{n}": w for v in versions.values() for n, w in v.weights.items()}
        return tensors | {f"best/{n}": t for n, t in (self.best.selector if self.best else {}).items()}

    def document(self) -> dict[str, object]:
        best = self.best
        versions = {v.name: v for v in [*self.kept.values(), *(best.versions if best else [])]}
        return {
            "kept": {str(origin): v.name for origin, v in self.kept.items()},
            "versions": {v.name: {"epoch": v.epoch, "nats": v.nats.tolist()} for v in versions.values()},
            "best": best and {"epoch": best.epoch, "loss": best.loss, "versions": [v.name for v in best.versions]},
        }

    def restore(self, tensors: dict[str, Tensor], document: Mapping[str, Any]) -> None:
        """The inverse of `tensors` and `document`."""
        versions = {SHARED: self.shared}
        for name, known in document["versions"].items():
            prefix = f"version/{name}/"
            weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            if name != SHARED:
                versions[name] = Version(name, int(known["epoch"]), weights, np.array(known["nats"], np.float64))
        self.kept = {int(origin): versions[str(name)] for origin, name in document["kept"].items()}
        best = document["best"]
        selector = {n.removeprefix("best/"): t for n, t in tensors.items() if n.startswith("best/")}
        self.best = System(best["epoch"], selector, [versions[name] for name in best["versions"]], best["loss"])
