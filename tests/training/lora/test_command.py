"""`hetlm lora` from a dataset to adapters, on a CPU with a tiny random Llama."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import typer
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from tests.training.datasets import write
from tests.training.lora.building import base
from training.lora import tune
from training.lora.command import lora
from training.lora.settings import TABLE_17

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(lora)
QUICK = ["--no-eight-bit", "--device", "cpu", "--users", "24", "--rank", "4", "--learning-rate", "0.01"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, a base model, and the adapters `one` of three epochs with their result."""
    root = tmp_path_factory.mktemp("lora")
    write(root / "shop", train=30, held=4)
    base(root / "base")
    result = fine_tune(root, "one", "--runs", root / "runs")
    assert result.exit_code == 0, result.output
    (root / "result.json").write_text(result.stdout)
    return root


def fine_tune(root: Path, name: str, *more: str | Path) -> Result:
    training = ("--epochs", "3", "--warmup-steps", "1", "--accumulation", "1", "--json")
    return run(root / "shop", "--base", root / "base", "--out", root / name, *QUICK, *training, *more)


def test_the_defaults_are_table_17() -> None:
    assert TABLE_17.model_dump() == {
        "schema_version": 1,
        "eight_bit": True,
        "sequence_length": 512,
        "validation_share": 0.05,
        "epochs": 10,
        "accumulation": 4,
        "micro_batch": 2,
        "learning_rate": 2e-4,
        "weight_decay": 0.0,
        "warmup_steps": 10,
        "rank": 32,
        "alpha": 16,
        "dropout": 0.05,
        "seed": 0,
        "max_steps": None,
    }


def test_it_learns_and_says_so_in_one_line(place: Path) -> None:
    lines = (place / "result.json").read_text().splitlines()
    assert len(lines) == 1
    document = json.loads(lines[0])
    losses = [epoch["validation"] for epoch in document["losses"]]
    assert len(losses) == 3
    assert document["validation_loss"] == min(losses)
    assert losses[-1] < losses[0]
    assert document["samples"] + document["validation_samples"] + document["too_long"] == 24
    assert document["validation_samples"] == 1


def test_the_adapters_are_safetensors_on_every_linear_layer(place: Path) -> None:
    names = {path.name for path in (place / "one").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "training.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    config = json.loads((place / "one" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 16, 0.05)
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    weights = load_file(place / "one" / "adapter_model.safetensors")
    assert len(weights) == 2 * 2 * 7
    assert any(name.endswith("lora_B.weight") and bool(w.abs().sum() > 0) for name, w in weights.items())


def test_stock_libraries_load_them_and_the_base_is_as_it_was(place: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(place / "base")
    before = {name: w.clone() for name, w in model.state_dict().items()}
    adapted = PeftModel.from_pretrained(model, place / "one")
    tokenizer = AutoTokenizer.from_pretrained(place / "one")
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False
    )
    assert asked == "<s>x\n"
    ids = torch.tensor([tokenizer.encode(asked, add_special_tokens=False)])
    with torch.no_grad(), adapted.disable_adapter():
        without = adapted(ids).logits
    with torch.no_grad():
        assert not torch.allclose(adapted(ids).logits, without)
    fresh = AutoModelForCausalLM.from_pretrained(place / "base").state_dict()
    assert all(torch.equal(before[name], fresh[name]) for name in fresh)


def test_interrupted_it_goes_on_to_the_same_weights(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tune.Tuning._save

    def stop_after_two(tuning: tune.Tuning, tuned: tune.Tuned) -> None:
        kept(tuning, tuned)
        if len(tuned.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(tune.Tuning, "_save", stop_after_two)
    first = fine_tune(place, "two", "--runs", place / "other")
    assert first.exit_code == 130
    assert not (place / "two").exists()
    monkeypatch.setattr(tune.Tuning, "_save", kept)
    second = fine_tune(place, "two", "--runs", place / "other")
    assert second.exit_code == 0, second.output
    one, two = (load_file(place / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_steps_are_two_steps(place: Path) -> None:
    result = fine_tune(place, "short", "--runs", place / "runs", "--max-steps", "2")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == 2


def test_mistakes_are_named(place: Path, tmp_path: Path) -> None:
    common = (place / "shop", "--base", place / "base", "--device", "cpu")
    eight = run(*common, "--out", tmp_path / "a")
    assert (eight.exit_code, eight.stdout) == (2, "")
    assert "--no-eight-bit" in eight.stderr
    taken = run(*common, "--out", place / "one", "--no-eight-bit")
    assert taken.exit_code == 2
    assert "exists already" in taken.stderr
    nowhere = run(place / "shop", "--base", tmp_path, "--out", tmp_path / "a", "--no-eight-bit", "--device", "cpu")
    assert nowhere.exit_code == 2
    assert "no tokenizer" in nowhere.stderr
    assert run(tmp_path, "--base", place / "base", "--out", tmp_path / "a", "--no-eight-bit").exit_code == 2


def test_without_peft_the_extra_is_named(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
    result = run(place / "shop", "--base", place / "base", "--out", tmp_path / "a", "--no-eight-bit")
    assert result.exit_code == 2
    assert "hetlm[lora]" in result.stderr
