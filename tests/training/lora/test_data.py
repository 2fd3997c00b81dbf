"""Tokens, packing and batches, and that packing changes no loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from tests.training.datasets import MONDAY
from tests.training.lora.building import base
from training.dataset import Sample
from training.lora.base import load_tokenizer
from training.lora.data import IGNORED, Tokenizer, Tokens, collate, pack, tokens_of

SAMPLE = Sample("u1", (("/", "/bags"), ("/bags", "/bags/tote")), (MONDAY, MONDAY), ("/bags/tote", "/cart"), MONDAY)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base(tmp_path_factory.mktemp("chatty"), chat=True)


def text(tokenizer: Tokenizer, ids: tuple[int, ...]) -> str:
    decoder: Any = tokenizer
    decoded: str = decoder.decode(list(ids))
    return decoded


def test_only_the_next_session_is_scored(plain: Path) -> None:
    tokenizer = load_tokenizer(str(plain))
    tokens = tokens_of(SAMPLE, tokenizer, 512)
    assert tokens is not None
    before = text(tokenizer, tokens.ids[: tokens.scored])
    assert before.startswith("<s>A user's website browsing sequence")
    assert "[BOS] / /bags [EOS]\n[BOS] /bags /bags/tote [EOS]\n" in before
    assert text(tokenizer, tokens.ids[tokens.scored :]) == "[BOS] /bags/tote /cart [EOS]<|end|>"


def test_a_chat_model_is_asked_in_its_own_form(chatty: Path) -> None:
    tokenizer = load_tokenizer(str(chatty))
    tokens = tokens_of(SAMPLE, tokenizer, 512)
    assert tokens is not None
    assert text(tokenizer, tokens.ids).startswith("<|user|>A user's website")
    assert text(tokenizer, tokens.ids[tokens.scored - 1 :]) == "<|assistant|>[BOS] /bags/tote /cart [EOS]<|end|>"


def test_a_long_history_loses_its_oldest_sessions(plain: Path) -> None:
    tokenizer = load_tokenizer(str(plain))
    sessions = tuple((f"/shoes/boot-{i}", "/cart") for i in range(60))
    long = replace(SAMPLE, history=sessions, history_started_at=(MONDAY,) * 60)
    tokens = tokens_of(long, tokenizer, 200)
    assert tokens is not None
    assert len(tokens.ids) <= 200
    kept = text(tokenizer, tokens.ids)
    assert "/shoes/boot-59 /cart [EOS]" in kept
    assert "/shoes/boot-0 " not in kept
    assert "[BOS] /bags/tote /cart [EOS]" in kept


def test_a_next_session_longer_than_a_sequence_is_left_out(plain: Path) -> None:
    endless = replace(SAMPLE, next_session=tuple(f"/page-{i}" for i in range(200)))
    assert tokens_of(endless, load_tokenizer(str(plain)), 128) is None


def test_packs_hold_every_sample_once_and_fit() -> None:
    lengths = [3, 9, 5, 5, 1, 7, 10, 2, 8, 4] * 30
    packs = pack(lengths, 10, (0, 1))
    assert sorted(place for members in packs for place in members) == list(range(300))
    assert all(sum(lengths[place] for place in members) <= 10 for members in packs)
    assert len(packs) <= 1.1 * sum(lengths) / 10
    assert packs == pack(lengths, 10, (0, 1))
    assert packs != pack(lengths, 10, (0, 2))


def test_a_batch_is_padded_and_positions_begin_again() -> None:
    first, second = Tokens((5, 6, 7), 2), Tokens((8, 9), 1)
    batch = collate([[first, second], [second]], 8, 2, torch.device("cpu"))
    assert batch.ids.tolist() == [[5, 6, 7, 8, 9, 2, 2, 2], [8, 9, 2, 2, 2, 2, 2, 2]]
    assert batch.labels.tolist()[0] == [IGNORED, IGNORED, 7, IGNORED, 9, IGNORED, IGNORED, IGNORED]
    assert batch.positions.tolist()[0] == [0, 1, 2, 0, 1, 0, 1, 2]


def test_packed_samples_do_not_see_each_other(plain: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32).eval()
    samples = [Tokens(tuple(range(10, 20)), 6), Tokens(tuple(range(30, 45)), 9), Tokens(tuple(range(50, 57)), 4)]

    def nats(packs: list[list[Tokens]], length: int) -> float:
        batch = collate(packs, length, 2, torch.device("cpu"))
        with torch.no_grad():
            logits = model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False).logits
        return float(
            F.cross_entropy(
                logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
            )
        )

    alone = sum(nats([[own]], len(own.ids)) for own in samples)
    assert nats([samples], 48) == pytest.approx(alone, rel=1e-5)
    assert nats([samples[:2], samples[2:]], 40) == pytest.approx(alone, rel=1e-5)
