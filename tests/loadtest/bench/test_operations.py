"""Operations counted from a shape, against those that torch counts while it computes."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from browsing.bundle import Bundle
from loadtest.bench.operations import Shape


def test_prefill_and_steps_are_what_torch_counts(bundle: Bundle) -> None:
    shape = Shape.read(bundle.predictor(0))
    model = AutoModelForCausalLM.from_pretrained(bundle.predictor(0), attn_implementation="eager").eval()
    prompt, length = 9, 5
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            out = model(torch.full((1, prompt), 5), use_cache=True, logits_to_keep=1)
        # torch counts attention between all pairs, the half that causality leaves out too
        needless = shape.attention(prompt * prompt) - shape.attention(prompt * (prompt + 1) // 2)
        assert abs(counter.get_total_flops() - needless - shape.prefill(prompt)) <= 0.01 * shape.prefill(prompt)
        with FlopCounterMode(display=False) as counter:
            for _ in range(length - 1):
                out = model(torch.tensor([[5]]), past_key_values=out.past_key_values, use_cache=True)
    assert abs(counter.get_total_flops() - shape.path(prompt, length)) <= 0.01 * shape.path(prompt, length)


def test_paths_share_the_prefill(bundle: Bundle) -> None:
    shape = Shape.read(bundle.predictor(0))
    assert shape.prediction(10, [1, 1, 1]) == shape.prefill(10), "a first page costs no step of its own"
    assert shape.prediction(10, [3, 4]) == shape.prefill(10) + shape.path(10, 3) + shape.path(10, 4)
