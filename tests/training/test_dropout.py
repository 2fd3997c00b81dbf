"""Dropout put on models that have none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.dropout import dropping
from training.predictors import architecture
from training.presets import PRESETS
from training.scoring import token_nats

IDS = torch.tensor([[1, 5, 6, 7, 2]])
SCORED = torch.tensor([[False, True, True, True, True]])


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return architecture(PRESETS["demo"], 12, 32)


def test_it_is_there_within_and_gone_after(model: nn.Module) -> None:
    plain = token_nats(model, IDS, SCORED)
    torch.manual_seed(1)
    with dropping(model, 0.3):
        first, second = token_nats(model, IDS, SCORED), token_nats(model, IDS, SCORED)
    assert not torch.equal(first, second)
    assert not torch.equal(first, plain)
    assert torch.equal(token_nats(model, IDS, SCORED), plain)


def test_it_is_a_function_of_the_random_state(model: nn.Module) -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(7)
        with dropping(model, 0.5):
            draws.append(token_nats(model, IDS, SCORED))
    assert torch.equal(draws[0], draws[1])


def test_none_changes_nothing(model: nn.Module) -> None:
    with dropping(model, 0.0):
        assert torch.equal(token_nats(model, IDS, SCORED), token_nats(model, IDS, SCORED))


def test_every_branch_and_the_embeddings_are_dropped(model: nn.Module) -> None:
    """Without them nothing but the last norm is left: all pages are alike."""
    torch.manual_seed(0)
    with dropping(model, 1 - 1e-9):
        nats = token_nats(model, IDS, SCORED)[SCORED]
    torch.testing.assert_close(nats, torch.full_like(nats, float(torch.tensor(12.0).log())))


def test_an_error_within_leaves_no_hook(model: nn.Module) -> None:
    with pytest.raises(KeyError), dropping(model, 0.3):
        raise KeyError
    assert torch.equal(token_nats(model, IDS, SCORED), token_nats(model, IDS, SCORED))
