"""The larger predictor has the parameters that were asked for, and stays the preset's kind of model."""

from __future__ import annotations

import pytest
import torch

from training.enlarging import enlarged
from training.predictors import architecture, parameters
from training.presets import PRESETS, Preset
from training.scoring import token_nats

PAGES = 500


def count(preset: Preset) -> int:
    with torch.device("meta"):
        return parameters(architecture(preset, PAGES, preset.context))


@pytest.mark.parametrize("times", [2, 6])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_at_least_so_many_times_the_parameters_and_hardly_more(name: str, times: int) -> None:
    preset = PRESETS[name]
    wide = enlarged(preset, PAGES, preset.context, times)
    share = count(wide) / (times * count(preset))
    assert 1 <= share < 1.01
    assert wide.sizes["num_hidden_layers"] == preset.sizes["num_hidden_layers"]
    assert wide.learning_rate == preset.learning_rate
    heads, own = int(str(wide.sizes["num_attention_heads"])), int(str(preset.sizes["num_attention_heads"]))
    assert int(str(wide.sizes["hidden_size"])) // heads == int(str(preset.sizes["hidden_size"])) // own
    # both widths grow, and no shape gets odd: the narrow demo has the coarsest heads
    inner = "ffn_dim" if preset.family == "opt" else "intermediate_size"
    before, after = (int(str(p.sizes[inner])) / int(str(p.sizes["hidden_size"])) for p in (preset, wide))
    assert 0.7 * before < after < 1.3 * before


def test_once_is_the_preset_itself() -> None:
    assert enlarged(PRESETS["small"], PAGES, 512, 1) is PRESETS["small"]


def test_the_enlarged_model_scores_tokens() -> None:
    torch.manual_seed(0)
    wide = enlarged(PRESETS["demo"], PAGES, 64, 3)
    model = architecture(wide, PAGES, 64)
    assert count(wide) <= parameters(model) + 64 * int(str(wide.sizes["hidden_size"]))
    ids = torch.randint(4, PAGES, (2, 16))
    scored = torch.ones_like(ids, dtype=torch.bool)
    scored[:, 0] = False
    assert torch.isfinite(token_nats(model, ids, scored)).all()
