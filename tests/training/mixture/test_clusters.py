"""The clusters of the mixture: how they begin, shrink, and come back from a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from browsing.vocabulary import Vocabulary
from training.mixture.clusters import Clusters, sizes_of
from training.predictors import build, weights_of
from training.presets import PRESETS

START = np.array([[0.7, 0.2, 0.1], [0.6, 0.1, 0.3], [0.1, 0.2, 0.7]])


def begun() -> Clusters:
    return Clusters.begin(build(PRESETS["demo"], Vocabulary(["a", "b"]), 16, seed=0), START, 1e-3, 0.01)


def trained() -> Clusters:
    """After a step of each predictor, in a direction of its own, a merge, and a round."""
    clusters = begun()
    for k, (predictor, critic) in enumerate(zip(clusters.predictors, clusters.critics, strict=True)):
        ids = torch.tensor([[1, 4 + k, 2]])
        predictor(input_ids=ids).logits[0, 0, 4 + k].backward()
        critic.step()
    clusters.origins, clusters.named, clusters.trajectory = [0, 3], 4, [3, 2]
    return clusters


def test_clusters_of_which_nobody_is_most_likely_are_left_out() -> None:
    clusters = begun()
    assert sizes_of(START) == [2, 0, 1]
    assert clusters.origins == [0, 2]
    assert clusters.named == 3
    assert clusters.resp == pytest.approx(np.array([[7 / 8, 1 / 8], [6 / 9, 3 / 9], [1 / 8, 7 / 8]]))
    assert clusters.weights == pytest.approx(clusters.resp.mean(0))
    assert sizes_of(clusters.resp) == [2, 1]


def test_what_is_kept_sums_to_one() -> None:
    clusters = begun()
    second = clusters.predictors[1]
    clusters.keep([1])
    assert clusters.origins == [2]
    assert clusters.predictors == [second]
    assert clusters.weights.tolist() == [1.0]
    assert clusters.resp.tolist() == [[1.0]] * 3


def test_a_cluster_that_was_merged_twice_has_one_heir() -> None:
    clusters = begun()
    clusters.merged = {0: 3, 2: 3, 3: 4, 1: 4}
    assert [clusters.heir(origin) for origin in (0, 1, 2, 3, 4)] == [4] * 5


def test_the_state_comes_back_whole() -> None:
    before, after = trained(), begun()
    # Copies, as a file holds: what is restored must not share memory with what is trained on.
    tensors = {name: tensor.clone() for name, tensor in before.tensors().items()}
    after.restore(tensors, before.document(), 1e-3, 0.01)
    assert after.document() == before.document()
    again = after.tensors()
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    assert any(
        not torch.equal(tensor, weights_of(after.predictors[1])[name])
        for name, tensor in weights_of(after.predictors[0]).items()
    ), "each has its own weights"
