"""The learning rate is the cosine schedule that the table means."""

from __future__ import annotations

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from training.lora.tune import factor


@pytest.mark.parametrize(("warmup", "total"), [(10, 50), (0, 7), (3, 4), (10, 2)])
def test_the_rate_is_that_of_the_stock_schedule(warmup: int, total: int) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, total)
    for step in range(total):
        assert factor(step, warmup, total) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        schedule.step()
