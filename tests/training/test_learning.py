"""A pass of gradient descent, and the learning rate along the way."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from training.batches import Example
from training.hardware import Hardware, adamw
from training.learning import CLIP, one_pass, schedule
from training.predictors import architecture
from training.presets import PRESETS
from training.scoring import token_nats

PEOPLE = [Example((1, 5, 6, 2, 1, 7, 2), 5), Example((1, 8, 2, 1, 9, 9, 2), 4), Example((1, 5, 2, 1, 4, 4, 2), 4)]
BATCHES = [np.array([0, 1]), np.array([2])]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return architecture(PRESETS["demo"], 12, 32).train()


def test_it_is_adamw_on_the_mean_over_all_tokens(model: nn.Module) -> None:
    by_hand = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.0, weight_decay=0.1)
    expected = []
    for rows, rate in zip(BATCHES, (1e-2, 5e-3), strict=True):
        ids = torch.tensor([PEOPLE[row].ids for row in rows])
        nats = token_nats(by_hand, ids, ids != 1)
        expected.append((float(nats.detach().sum()), int((ids != 1).sum())))
        torch.autograd.backward(nats.sum() / (ids != 1).sum())
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), CLIP)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    hardware = Hardware(torch.device("cpu"))
    done = list(one_pass(model, adamw(model, 0.0, 0.1), PEOPLE, BATCHES, lambda share: 1e-2 * (1 - share), hardware))
    assert [tokens for _, tokens in done] == [tokens for _, tokens in expected]
    assert [nats for nats, _ in done] == pytest.approx([nats for nats, _ in expected])
    for own, other in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-4)  # a step of Adam is as long as its rate


def test_nothing_happens_unless_somebody_takes_the_steps(model: nn.Module) -> None:
    before = copy.deepcopy(model)
    steps = one_pass(
        model, adamw(model, 1e-2, 0.0), PEOPLE, BATCHES, lambda share: 1e-2, Hardware(torch.device("cpu")), dropout=0.5
    )
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
    assert len(list(steps)) == 2
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_the_rate_rises_and_falls_to_a_tenth() -> None:
    assert schedule(0.0) == 1.0
    assert schedule(0.5) == pytest.approx(0.55)
    assert schedule(1 - 1e-9) == pytest.approx(0.1)
    assert schedule(0.0, 0.2) < 0.01
    assert schedule(0.1, 0.2) == pytest.approx(0.5, abs=0.01)
    assert schedule(0.2, 0.2) == 1.0
