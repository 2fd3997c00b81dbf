"""The full-size presets are the paper's hyperparameters (HeTLM, Tables 15 and 16)."""

from __future__ import annotations

import pytest

from training.presets import PRESETS
from training.settings import settings_of

FULL = ("opt-350m", "qwen2.5-0.5b", "smollm2-360m")


@pytest.mark.parametrize("name", FULL)
def test_table_16_pretraining(name: str) -> None:
    settings = settings_of(name, method="hetlm")
    assert settings.learning_rate == 1e-5
    assert settings.weight_decay == 0.01
    assert (settings.batch_size, settings.accumulate) == (32, 4)
    assert settings.context == 512
    assert settings.epochs == 100
    assert settings.warmup == 0.05


@pytest.mark.parametrize("name", FULL)
def test_table_15_actor_critic(name: str) -> None:
    settings = settings_of(name, method="hetlm", losses="paper")
    assert settings.tune_batch_size == 16
    assert settings.context == 512
    assert settings.tune_epochs == 10
    assert settings.clusters == 6
    assert (settings.selector_learning_rate, settings.predictor_learning_rate) == (5e-5, 1e-5)
    assert (settings.selector_weight_decay, settings.predictor_weight_decay) == (1e-4, 0.01)
    assert 0.5 <= settings.alpha <= 5.0
    assert 1.0 <= settings.beta <= 9.0


def test_they_name_the_checkpoints_that_they_are_the_shape_of() -> None:
    assert [PRESETS[name].hub for name in FULL] == [
        "facebook/opt-350m",
        "Qwen/Qwen2.5-0.5B",
        "HuggingFaceTB/SmolLM2-360M",
    ]


@pytest.mark.parametrize("name", FULL)
def test_a_warm_start_from_a_checkpoint_is_from_the_papers(name: str) -> None:
    settings = settings_of(name, warm_start="checkpoint")
    assert (settings.warm_start, settings.checkpoint) == ("checkpoint", PRESETS[name].hub)
    own = settings_of(name, warm_start="checkpoint", checkpoint="models/own")
    assert own.checkpoint == "models/own"
    assert own == settings_of(name, checkpoint="models/own")
    assert settings_of(name).checkpoint is None


def test_the_small_presets_have_no_public_checkpoint() -> None:
    with pytest.raises(ValueError, match="the preset small has no public checkpoint"):
        settings_of("small", warm_start="checkpoint")
