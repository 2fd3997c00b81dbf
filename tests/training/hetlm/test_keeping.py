"""Early stopping per cluster."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from training.hetlm.keeping import Keeper, Version
from training.predictors import weights_of

SHARED = np.array([5.0, 5.0, 5.0, 5.0])
OWN = np.array([0, 0, 1, 1])


def keeper() -> Keeper:
    return Keeper(Version("shared", 0, weights_of(nn.Linear(1, 1)), SHARED), np.full(4, 2))


def offer(keeper: Keeper, epoch: int, nats: list[list[float]], own: np.ndarray = OWN) -> tuple[list[str], float]:
    models = [nn.Linear(1, 1), nn.Linear(1, 1)]
    with torch.no_grad():
        for model in models:
            model.weight.fill_(float(epoch))
    selector = {"w": torch.tensor(float(epoch))}
    system = keeper.offer(epoch, selector, [*models], [0, 1], own, np.array(nats, float).reshape(-1, 2))
    return [v.name for v in system.versions], system.loss


def test_each_cluster_keeps_its_own_best_epoch() -> None:
    kept = keeper()
    assert offer(kept, 1, [[4, 9], [4, 9], [9, 6], [9, 6]]) == (["0@1", "shared"], (4 + 4 + 5 + 5) / 8)
    assert offer(kept, 2, [[6, 9], [6, 9], [9, 3], [9, 3]]) == (["0@1", "1@2"], (4 + 4 + 3 + 3) / 8)
    assert offer(kept, 3, [[6, 9], [6, 9], [9, 4], [9, 4]]) == (["0@1", "1@2"], (4 + 4 + 3 + 3) / 8)
    assert kept.best is not None
    assert kept.best.epoch == 2
    assert kept.best.versions[0].weights["weight"].item() == 1
    assert kept.best.selector["w"].item() == 2


def test_it_is_never_worse_than_the_shared_predictor_on_the_users_that_are_its_own_now() -> None:
    kept = keeper()
    offer(kept, 1, [[1, 9], [9, 9], [9, 6], [9, 6]], np.array([0, 1, 1, 1]))
    names, loss = offer(kept, 2, [[9, 9], [9, 9], [9, 9], [9, 9]], np.array([1, 0, 1, 1]))
    assert names == ["shared", "shared"]  # what won on the first user alone is worse on the second
    assert loss == 20 / 8
    assert kept.best is not None
    assert kept.best.epoch == 1


def test_the_state_comes_back_whole() -> None:
    first, second = keeper(), keeper()
    offer(first, 1, [[4, 9], [4, 9], [9, 6], [9, 6]])
    offer(first, 2, [[6, 9], [6, 9], [9, 3], [9, 3]])
    second.restore(first.tensors(), first.document())
    assert second.tensors().keys() == first.tensors().keys()
    assert second.document() == first.document()
    assert offer(second, 3, [[1, 9], [1, 9], [9, 9], [9, 9]]) == offer(first, 3, [[1, 9], [1, 9], [9, 9], [9, 9]])


def test_without_selection_users_the_last_epoch_stands() -> None:
    empty = Keeper(Version("shared", 0, weights_of(nn.Linear(1, 1)), np.zeros(0)), np.zeros(0, np.int64))
    for epoch in (1, 2):
        offer(empty, epoch, [], np.zeros(0, np.int64))
    assert empty.best is not None
    assert [v.name for v in empty.best.versions] == ["0@2", "1@2"]
