"""The selector's losses against sums done by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.hetlm.losses import (
    batch_centroids,
    blend,
    entropy,
    expected_nats,
    mean_distance,
    selector_loss,
    separation,
    summed_distance,
)
from training.settings import Losses

E = torch.tensor([[0.0, 0.0], [0.1, 0.2], [0.0, 0.5]])
"""Manhattan distances: 0.3 (first and second), 0.5 (first and third), 0.4 (second and third)."""


def test_l1_weighs_every_predictor_by_its_probability() -> None:
    pi = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    nats = torch.tensor([[4.0, 8.0], [3.0, 100.0]])
    assert expected_nats(pi, nats).item() == pytest.approx((0.25 * 4 + 0.75 * 8 + 3) / 2)


def test_l2_is_the_mean_entropy() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [math.log(2.0), 0.0, -1e4]])
    second = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert entropy(logits).item() == pytest.approx((math.log(3) + second) / 2, rel=1e-6)


def test_distances_run_over_ordered_pairs() -> None:
    assert summed_distance(E).item() == pytest.approx(2 * (0.3 + 0.5 + 0.4))
    assert mean_distance(E).item() == pytest.approx(2 * 1.2 / (3 * 2 * 2))


def test_l3_as_printed() -> None:
    assert separation(E, "paper", 1.0).item() == pytest.approx(1 / (1 + math.exp(2.4)))


def test_l3_scaled_begins_at_sigmoid_of_minus_one() -> None:
    reference = mean_distance(E).item()
    assert separation(E, "scaled", reference).item() == pytest.approx(1 / (1 + math.e))
    assert separation(2 * E, "scaled", reference).item() == pytest.approx(1 / (1 + math.exp(2)))


@pytest.mark.parametrize("losses", ["paper", "scaled"])
def test_one_cluster_has_nothing_to_be_apart_from(losses: Losses) -> None:
    assert separation(torch.ones(1, 4), losses, 1.0).item() == 0.5


def test_over_384_dimensions_only_the_scaled_l3_has_a_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    centroids = torch.nn.functional.normalize(torch.randn(6, 384, generator=generator), dim=1)
    gradients = {}
    names: tuple[Losses, ...] = ("paper", "scaled")
    for losses in names:
        own = centroids.clone().requires_grad_()
        torch.autograd.backward(separation(own, losses, mean_distance(centroids).item()))
        assert own.grad is not None
        gradients[losses] = own.grad.abs().max().item()
    assert gradients["paper"] == 0
    assert gradients["scaled"] > 1e-4


def test_batch_centroids_are_weighted_means() -> None:
    pi = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    z = torch.tensor([[0.0, 3.0], [3.0, 0.0]])
    assert torch.allclose(batch_centroids(pi, z), torch.tensor([[2.0, 1.0], [0.0, 3.0]]))


def test_the_blend_is_a_moving_average_with_a_gradient_from_the_batch() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    z = torch.tensor([[0.0, 3.0], [3.0, 0.0]])
    stored = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    blended = blend(stored, logits.softmax(1), z, 0.25)
    assert torch.allclose(blended, 0.75 * stored + 0.25 * torch.full((2, 2), 1.5))
    torch.autograd.backward(blended[0, 0])
    assert logits.grad is not None
    assert logits.grad[1, 0] > 0  # more of the second user draws the first centroid to x = 3
    assert logits.grad[0, 0] < 0


def loss(logits: Tensor, losses: Losses, alpha: float = 0.0, beta: float = 0.0) -> Tensor:
    nats = torch.tensor([[2.0, 6.0], [9.0, 3.0]])
    found = selector_loss(
        logits,
        torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
        nats,
        torch.tensor([2, 3]),
        torch.eye(2),
        losses=losses,
        alpha=alpha,
        beta=beta,
        rate=0.5,
        reference=1.0,
    )
    assert not found.centroids.requires_grad
    assert found.total.item() == pytest.approx((found.l1 + alpha * found.l2 + beta * found.l3).item())
    return found.total


def test_paper_sums_a_session_and_scaled_averages_its_tokens() -> None:
    logits = torch.zeros(2, 2)
    assert loss(logits, "paper").item() == pytest.approx((4 + 6) / 2)
    assert loss(logits, "scaled").item() == pytest.approx((2 + 2) / 2)


@pytest.mark.parametrize("losses", ["paper", "scaled"])
def test_descent_on_l1_moves_users_to_the_predictor_that_knows_them(losses: Losses) -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    torch.autograd.backward(loss(logits, losses))
    assert logits.grad is not None
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]
    assert logits.grad[1, 1] < 0 < logits.grad[1, 0]


def test_descent_on_l2_sharpens() -> None:
    logits = torch.tensor([[0.2, 0.0], [0.0, 0.2]], requires_grad=True)
    plain, sharp = loss(logits, "paper"), loss(logits, "paper", alpha=5.0)
    (gradient,) = torch.autograd.grad(sharp - plain, logits)
    assert gradient[0, 0] < 0 < gradient[0, 1]
    assert gradient[1, 1] < 0 < gradient[1, 0]
