"""From samples to packed sequences: the zero-shot prompt, then the next session, whose tokens alone are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from training.baselines.text.prompts import newest, prompt, written
from training.dataset import Sample

IGNORED = -100
"""Label of a token that is not scored."""
OPEN = 64
"""Sequences that are filled at once."""
PLAIN_TEMPLATE = (
    "{% if bos_token is defined and bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ message['content'] }}\n{% endif %}"
    "{% endfor %}"
)
"""The chat template of a base model that has none: the prompt, a line's end, the answer. It is saved with the adapters,
so that a server asks as training did."""

Message = dict[str, str]


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    chat_template: str | None
    eos_token: str | None
    eos_token_id: int | None
    pad_token_id: int | None

    def apply_chat_template(
        self, conversation: list[Message], *, tokenize: bool, add_generation_prompt: bool = False
    ) -> str: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """One sample: token ids, of which those from `scored` on are the next session's."""

    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True, slots=True, eq=False)
class Packs:
    """A micro-batch, int64 [n, length] each. `positions` begin again with every sample of a sequence, which tells the
    model that the samples do not see each other."""

    ids: Tensor
    labels: Tensor
    positions: Tensor


def tokens_of(sample: Sample, tokenizer: Tokenizer, longest: int) -> Tokens | None:
    """The sample within `longest` tokens: as many of its newest sessions as fit. None where not even one page does."""
    pages = sum(map(len, sample.history))
    while True:
        question: Message = {"role": "user", "content": prompt(newest(sample.history, pages))}
        answer: Message = {"role": "assistant", "content": written(sample.next_session)}
        asked = tokenizer.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template([question, answer], tokenize=False)
        said = whole.removeprefix(asked) if whole.startswith(asked) else answer["content"] + (tokenizer.eos_token or "")
        before = tokenizer.encode(asked, add_special_tokens=False)
        ids = (*before, *tokenizer.encode(said.rstrip("\n"), add_special_tokens=False))
        if len(ids) <= longest:
            return Tokens(ids, len(before))
        if pages == 1:
            return None
        pages = max(1, min(pages - 1, pages * longest // len(ids)))


def pack(lengths: Sequence[int], longest: int, seed: Sequence[int]) -> list[list[int]]:
    """Places of the samples of each sequence: in an order drawn by `seed`, each into the first sequence with room."""
    full: list[list[int]] = []
    open_: list[tuple[list[int], int]] = []
    for place in np.random.default_rng(list(seed)).permutation(len(lengths)).tolist():
        needed = lengths[place]
        for i, (members, room) in enumerate(open_):
            if needed <= room:
                members.append(place)
                open_[i] = (members, room - needed)
                break
        else:
            open_.append(([place], longest - needed))
            if len(open_) > OPEN:
                open_.sort(key=lambda pack: pack[1])
                full.append(open_.pop(0)[0])
    return full + [members for members, _ in open_]


def collate(packs: Sequence[Sequence[Tokens]], length: int, padding: int, device: torch.device) -> Packs:
    """Each pack one row of `length` tokens, padded."""
    ids = torch.full((len(packs), length), padding)
    labels = torch.full((len(packs), length), IGNORED)
    positions = torch.zeros((len(packs), length), dtype=torch.int64)
    for row, members in enumerate(packs):
        at = 0
        for own in members:
            end = at + len(own.ids)
            ids[row, at:end] = torch.tensor(own.ids)
            labels[row, at + own.scored : end] = ids[row, at + own.scored : end]
            positions[row, at:end] = torch.arange(len(own.ids))
            at = end
        positions[row, at:] = torch.arange(length - at)
    return Packs(ids.to(device), labels.to(device), positions.to(device))
