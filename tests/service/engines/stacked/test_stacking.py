"""The stacked directory: what is in it, and which predictors cannot be in one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save_file
from torch.nn import functional
from transformers import LlamaForCausalLM

from service.engines.stacked.plugin import ARCHITECTURE
from service.engines.stacked.stacking import check, stack
from tests import tiny


@pytest.fixture
def predictors(tmp_path: Path) -> list[Path]:
    return tiny.predictors(tmp_path / "own", tiny.vocabulary(), 3)


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    places = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"]
    found = {name: load_file(directory / file)[name] for name, file in places.items()}
    assert set(places) == {name for file in directory.glob("*.safetensors") for name in load_file(file)}
    return found


def change(directory: Path, **values: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_matrices_are_the_predictors_own_with_the_norms_in_them(predictors: list[Path], tmp_path: Path) -> None:
    stacked = tensors(stack(predictors, tmp_path / "stacked"))
    hidden = torch.randn(4, 64, generator=torch.Generator().manual_seed(9))
    bare = functional.rms_norm(hidden, (64,), eps=1e-6)
    for k, directory in enumerate(predictors):
        own = LlamaForCausalLM.from_pretrained(directory)
        assert own.config.rms_norm_eps == 1e-6
        assert own.model.norm.weight.std() > 0.01, "a case that shows nothing"
        torch.testing.assert_close(stacked["embed"].view(3, 10, 64)[k], own.model.embed_tokens.weight.data)
        for i, layer in enumerate(own.model.layers):
            attention, mlp = layer.self_attn, layer.mlp
            normed = layer.input_layernorm(hidden)
            qkv = torch.cat([part(normed) for part in (attention.q_proj, attention.k_proj, attention.v_proj)], -1)
            torch.testing.assert_close(bare @ stacked[f"layers.{i}.qkv"][k].T, qkv)
            normed = layer.post_attention_layernorm(hidden)
            gate_up = torch.cat([mlp.gate_proj(normed), mlp.up_proj(normed)], -1)
            torch.testing.assert_close(bare @ stacked[f"layers.{i}.gate_up"][k].T, gate_up)
            assert torch.equal(stacked[f"layers.{i}.out"][k], attention.o_proj.weight)
            assert torch.equal(stacked[f"layers.{i}.down"][k], mlp.down_proj.weight)
        torch.testing.assert_close(bare @ stacked["head"][k].T, own.lm_head(own.model.norm(hidden)))


def test_tied_embeddings_are_the_head(predictors: list[Path], tmp_path: Path) -> None:
    for directory in predictors:
        path = directory / "model.safetensors"
        save_file({name: tensor for name, tensor in load(path.read_bytes()).items() if name != "lm_head.weight"}, path)
        change(directory, tie_word_embeddings=True)
    stacked = tensors(stack(predictors, tmp_path / "stacked"))
    for k, directory in enumerate(predictors):
        own = LlamaForCausalLM.from_pretrained(directory).model
        torch.testing.assert_close(stacked["head"][k], own.embed_tokens.weight.data * own.norm.weight.data)
    assert json.loads((tmp_path / "stacked" / "config.json").read_text())["tie_word_embeddings"] is False


def test_the_configuration_is_the_predictors_with_another_name(predictors: list[Path], tmp_path: Path) -> None:
    stacked = json.loads((stack(predictors, tmp_path / "stacked") / "config.json").read_text())
    own = json.loads((predictors[0] / "config.json").read_text())
    assert stacked == {**own, "architectures": [ARCHITECTURE], "clusters": 3, "tie_word_embeddings": False}
    assert "auto_map" not in stacked
    assert {path.suffix for path in (tmp_path / "stacked").iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: change(path, architectures=["OPTForCausalLM"]),
            "its architecture is OPTForCausalLM; only LlamaFor",
        ),
        (lambda path: change(path, architectures=None), "its architecture is unknown"),
        (lambda path: change(path, hidden_size=96), "hidden_size is 96 where cluster 0 has 64"),
        (lambda path: change(path, rms_norm_eps=1e-5), "rms_norm_eps is 1e-05"),
        (lambda path: change(path, attention_bias=True), "attention_bias is True"),
        (lambda path: change(path, hidden_act="gelu"), "hidden_act is 'gelu'"),
    ],
)
def test_predictors_that_cannot_be_stacked(
    predictors: list[Path], spoil: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    check(predictors)
    spoil(predictors[2])
    with pytest.raises(ValueError, match=rf"cluster-2/config\.json: {message}.*engine vllm"):
        stack(predictors, tmp_path / "stacked")
    assert not (tmp_path / "stacked").exists()


def test_without_predictors() -> None:
    with pytest.raises(ValueError, match="no predictor"):
        check([])


def test_nothing_is_left_of_one_that_fails(predictors: list[Path], tmp_path: Path) -> None:
    (predictors[1] / "model.safetensors").write_bytes(b"short")
    with pytest.raises(Exception, match="header"):
        stack(predictors, tmp_path / "stacked")
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
