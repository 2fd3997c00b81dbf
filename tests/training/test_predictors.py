"""Predictors: sizes, families, checkpoints, and what lands on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from browsing.vocabulary import Vocabulary
from training.predictors import build, load_weights, parameters, save_predictor, weights_of
from training.presets import PRESETS, Preset

WORDS = Vocabulary([f"/p{i}" for i in range(196)])
SMALL: dict[str, dict[str, object]] = {
    "opt-350m": {
        "hidden_size": 64,
        "word_embed_proj_dim": 32,
        "num_hidden_layers": 2,
        "ffn_dim": 64,
        "num_attention_heads": 2,
    },
    "qwen2.5-0.5b": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
    "smollm2-360m": {
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
    },
}


def shrunk(name: str) -> Preset:
    """The same family and options in miniature."""
    preset = PRESETS[name]
    return replace(preset, sizes={**preset.sizes, **SMALL.get(name, {})})


@pytest.mark.parametrize(("name", "least", "most"), [("demo", 0.3e6, 0.6e6), ("small", 1.5e6, 2.5e6)])
def test_sizes(name: str, least: float, most: float) -> None:
    assert least < parameters(build(PRESETS[name], WORDS, PRESETS[name].context, seed=0)) < most


@pytest.mark.parametrize(("name", "millions"), [("opt-350m", 331.2), ("qwen2.5-0.5b", 494.0), ("smollm2-360m", 361.8)])
def test_the_papers_architectures_have_their_published_sizes(name: str, millions: float) -> None:
    """With their own vocabularies, they have the parameters that their model cards give."""
    preset = PRESETS[name]
    sizes = {"opt-350m": (50272, 2048), "qwen2.5-0.5b": (151936, 32768), "smollm2-360m": (49152, 8192)}[name]
    config = AutoConfig.for_model(preset.family, vocab_size=sizes[0], max_position_embeddings=sizes[1], **preset.sizes)
    with torch.device("meta"):
        assert parameters(AutoModelForCausalLM.from_config(config)) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_family_is_a_plain_directory(tmp_path: Path, name: str) -> None:
    model = build(shrunk(name), WORDS, 64, seed=0).eval()
    save_predictor(model, weights_of(model), WORDS, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vocab_size"] == len(WORDS)
    assert config["max_position_embeddings"] >= 64
    assert (config["pad_token_id"], config["bos_token_id"], config["eos_token_id"]) == (0, 1, 2)
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert not {"temperature", "top_k", "top_p", "repetition_penalty"} & {k for k, v in generation.items() if v}
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.randint(4, len(WORDS), (2, 64))
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("name", ["opt-350m", "smollm2-360m"])
def test_a_checkpoint_keeps_its_body_and_gets_fresh_embeddings(tmp_path: Path, name: str) -> None:
    words = Vocabulary([f"word{i}" for i in range(300)])
    old = build(shrunk(name), words, 128, seed=1)
    save_predictor(old, weights_of(old), words, tmp_path)
    new = build(shrunk(name), WORDS, 64, seed=2, checkpoint=str(tmp_path))
    before, after = weights_of(old), weights_of(new)
    for key, weights in after.items():
        if "embed_tokens" in key:
            assert weights.shape[0] == len(WORDS)
            assert not torch.equal(weights, before[key][: len(WORDS)])
            assert weights.std().item() == pytest.approx(0.02, rel=0.1)
        else:
            assert torch.equal(weights, before[key])
    save_predictor(new, after, WORDS, tmp_path / "new")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert loaded.config.vocab_size == len(WORDS)
    assert loaded.get_output_embeddings().weight.shape[0] == len(WORDS)


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = build(shrunk("demo"), WORDS, 64, seed=0)
    save_predictor(model, weights_of(model), WORDS, tmp_path)
    with pytest.raises(ValueError, match="is a llama, the preset is a opt"):
        build(shrunk("opt-350m"), WORDS, 64, seed=0, checkpoint=str(tmp_path))
    with pytest.raises(ValueError, match="64 positions"):
        build(shrunk("demo"), WORDS, 128, seed=0, checkpoint=str(tmp_path))
    with pytest.raises(ValueError, match="no usable checkpoint"):
        build(shrunk("demo"), WORDS, 64, seed=0, checkpoint=str(tmp_path / "nothing"))


def test_equal_seeds_give_equal_weights() -> None:
    first, second = (weights_of(build(shrunk("demo"), WORDS, 64, seed=3)) for _ in range(2))
    assert all(torch.equal(first[n], second[n]) for n in first)
    other = build(shrunk("demo"), WORDS, 64, seed=4)
    assert any(not torch.equal(first[n], w) for n, w in weights_of(other).items())
    load_weights(other, first)
    assert all(torch.equal(first[n], w) for n, w in weights_of(other).items())


def test_without_the_hub_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **options: object) -> None:
        raise OSError("We couldn't connect to the hub to load the files.\nCheckout your internet connection.")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", unreachable)
    with pytest.raises(ValueError, match="--checkpoint DIRECTORY") as error:
        build(PRESETS["opt-350m"], WORDS, 64, seed=0, checkpoint="facebook/opt-350m")
    assert "no usable checkpoint at 'facebook/opt-350m': We couldn't connect to the hub" in str(error.value)
    assert "\n" not in str(error.value)
