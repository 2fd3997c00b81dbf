"""Nats under a predictor: against the model's own logits, and batch equal to single."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from tests.tiny import predictor, vocabulary
from training.batches import Example, collate, epoch_rows, example, seed_of
from training.dataset import Sample
from training.scoring import target_nats, token_nats

WORDS = vocabulary()
PAIRS: list[tuple[list[int], list[int]]] = [
    ([1, 6, 7, 2, 1], [7, 8, 2]),
    ([1, 9, 2, 1], [6, 2]),
    ([1, 6, 2, 1, 7, 8, 8, 9, 2, 1], [4, 3, 5, 2]),
]


def model(tmp_path: Path) -> torch.nn.Module:
    loaded: torch.nn.Module = AutoModelForCausalLM.from_pretrained(predictor(tmp_path, WORDS))
    return loaded


def by_hand(own: torch.nn.Module, prompt: list[int], target: list[int]) -> float:
    ids = torch.tensor([[*prompt, *target]])
    with torch.no_grad():
        log_p = own(input_ids=ids).logits[0].log_softmax(-1).double()
    return -sum(float(log_p[len(prompt) + i - 1, token]) for i, token in enumerate(target))


def test_target_nats_are_the_logits_log_probabilities(tmp_path: Path) -> None:
    own = model(tmp_path)
    nats, tokens = target_nats(own, PAIRS)
    assert nats.dtype == np.float64
    assert tokens.tolist() == [3, 2, 4]
    np.testing.assert_allclose(nats, [by_hand(own, *pair) for pair in PAIRS], rtol=1e-5)


def test_a_batch_equals_singles_and_leaves_the_mode(tmp_path: Path) -> None:
    own = model(tmp_path).train()
    together, _ = target_nats(own, PAIRS)
    assert own.training
    np.testing.assert_allclose(target_nats(own, PAIRS, batch_size=1)[0], together, rtol=1e-5)
    assert target_nats(own, [])[0].shape == (0,)


def test_only_scored_tokens_count_and_they_carry_a_gradient(tmp_path: Path) -> None:
    own = model(tmp_path)
    items = [Example((*prompt, *target), len(prompt)) for prompt, target in PAIRS]
    batch = collate(items, np.arange(3), torch.device("cpu"))
    nats = token_nats(own, batch.ids, batch.target)
    assert (nats != 0).sum().item() == 9
    assert nats.shape == batch.ids.shape
    torch.autograd.backward(nats.sum())
    assert all(p.grad is not None for p in own.parameters())


def test_every_token_but_bos_and_padding_is_scored() -> None:
    items = [Example((1, 6, 2, 1, 7, 2), 4), Example((1, 7, 2), 1)]
    batch = collate(items, np.array([1, 0]), torch.device("cpu"))
    assert batch.ids.tolist() == [[1, 7, 2, 0, 0, 0], [1, 6, 2, 1, 7, 2]]
    assert batch.scored.int().tolist() == [[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 1]]
    assert batch.target.int().tolist() == [[0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]]


def test_the_history_is_cut_as_at_serving() -> None:
    history = (("/", "/bags"), ("/shoes", "/bags"))
    sample = Sample("u", history, (), ("/bags/tote", "/nowhere"), None)  # type: ignore[arg-type]
    whole = example(sample, WORDS, 32, 8)
    assert whole.pair == (WORDS.prompt(history, 24).ids, (8, 3, 2))
    cut = example(sample, WORDS, 16, 8)
    assert cut.pair[0] == (1, 9, 7, 2, 1)
    long = Sample("u", history, (), ("/",) * 50, None)  # type: ignore[arg-type]
    assert len(example(long, WORDS, 16, 8).ids) == 16


def test_an_epoch_sees_every_row_once_in_an_order_of_its_seed() -> None:
    lengths = np.random.default_rng(0).integers(3, 90, 1000)
    epoch = [rows.tolist() for rows in epoch_rows(lengths, 16, seed_of(0, "a", 1))]
    assert sorted(row for rows in epoch for row in rows) == list(range(1000))
    assert epoch == [rows.tolist() for rows in epoch_rows(lengths, 16, seed_of(0, "a", 1))]
    assert epoch != [rows.tolist() for rows in epoch_rows(lengths, 16, seed_of(0, "a", 2))]
    padded = sum(int(lengths[rows].max()) * len(rows) for rows in epoch)
    assert padded < 1.15 * lengths.sum()
