"""`transformers.generate` for a batch of requests to one cluster's predictor, in one call.

Every request's rows stand one after another: free samples, samples without an outcome, greedy paths. One call with
per-row rules makes larger batches than a call for each kind of path, and passes the weights fewer times. The model's
own probabilities come from the raw logits that `generate` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

from browsing.engine import GenerateRequest, Path
from browsing.vocabulary import BOS, EOS, NEVER, PAD


class RowRules(LogitsProcessor):  # type: ignore[misc]
    """`banned` bool [R, V]: tokens that a row must not have. `greedy` bool [R]: rows that take the likeliest."""

    def __init__(self, banned: Tensor, greedy: Tensor) -> None:
        self._banned = banned
        self._greedy = greedy

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        allowed = scores.masked_fill(self._banned, -torch.inf)
        likeliest = allowed.argmax(-1, keepdim=True)
        only = torch.full_like(allowed, -torch.inf).scatter(1, likeliest, 0.0)
        return torch.where(self._greedy[:, None], only, allowed)


class Generator:
    """One cluster's predictor."""

    def __init__(self, predictor: FilePath) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(predictor, dtype=torch.float32).eval()

    @torch.inference_mode()
    def generate(self, requests: Sequence[GenerateRequest]) -> list[list[Path]]:
        """Each request's paths. All have one `max_steps`; seeds are ignored."""
        rows = [request for request in requests for _ in range(request.samples)]
        longest = max(len(request.prompt) for request in requests)
        ids = torch.tensor([(*(PAD,) * (longest - len(row.prompt)), *row.prompt) for row in rows])
        mask = torch.tensor([(*(0,) * (longest - len(row.prompt)), *(1,) * len(row.prompt)) for row in rows])
        made = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            max_new_tokens=requests[0].max_steps,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
            logits_processor=LogitsProcessorList([self._rules(rows)]),
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens = made.sequences[:, longest:]
        logits = torch.stack(made.logits, 1).double()  # [R, T, V]
        logits[:, :, list(NEVER)] = -torch.inf
        own = logits.softmax(-1)
        found, first = [], 0
        for request in requests:
            last = first + request.samples
            found.append(_paths(tokens[first:last], own[first:last], request.watched))
            first = last
        return found

    def _rules(self, rows: Sequence[GenerateRequest]) -> RowRules:
        banned = torch.zeros(len(rows), int(self._model.config.vocab_size), dtype=torch.bool)
        banned[:, list(NEVER)] = True
        for place, row in enumerate(rows):
            banned[place, list(row.forbidden)] = True
        return RowRules(banned, torch.tensor([row.greedy for row in rows]))


def _paths(tokens: Tensor, own: Tensor, watched: tuple[int, ...]) -> list[Path]:
    followed = own[:, :, list(watched)].numpy()
    found = []
    for row, probabilities in zip(tokens.tolist(), followed, strict=True):
        length = row.index(EOS) + 1 if EOS in row else len(row)
        found.append(Path(tuple(row[:length]), probabilities[:length], row[length - 1] == EOS))
    return found
