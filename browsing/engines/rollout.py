"""Batches of paths one after another: a plain key-value-cache loop over any causal model of `transformers`.

The embedded engine's core for models that `browsing.engines.llamas` does not know.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from browsing.engine import EngineError, Path
from browsing.engines.job import Job, Part, parts
from browsing.vocabulary import EOS, NEVER, PAD


@dataclass(slots=True)
class Predictor:
    model: Any
    vocabulary: int
    positions: int

    @classmethod
    def load(cls, directory: FilePath, dtype: torch.dtype) -> Predictor:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        model = AutoModelForCausalLM.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, dtype=dtype, attn_implementation="sdpa"
        ).eval()
        return cls(model, int(model.config.vocab_size), int(model.config.max_position_embeddings))


class Rollouts:
    """Implements `browsing.engines.job.Core`: a step is a whole batch, of one cluster and at most `max_rows` paths."""

    def __init__(self, predictors: Sequence[Predictor], max_rows: int, stopping: threading.Event) -> None:
        """`stopping`: ends a batch between two tokens."""
        self._predictors = predictors
        self._max_rows = max_rows
        self._stopping = stopping
        self._pending: list[Part] = []
        self._taken: list[Part] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        self._pending += parts(jobs, self._max_rows)

    @property
    def busy(self) -> bool:
        return bool(self._pending)

    def step(self) -> None:
        self._taken = _take(self._pending, self._max_rows)
        batch = [part for part in self._taken if not part.job.over()]
        if batch:
            for part in batch:
                part.job.join()
            try:
                model = self._predictors[batch[0].job.request.cluster].model
                _generate(model, _Rows.of(batch), self._stopping)
            except Exception as error:  # the worker must outlive whatever torch raises
                for part in batch:
                    part.job.fail(EngineError(f"the predictor failed: {error}"))
        self._taken = []

    def fail_all(self, error: Exception) -> None:
        for part in (*self._taken, *self._pending):
            part.job.fail(error)
        self._taken, self._pending = [], []


def _take(pending: list[Part], max_rows: int) -> list[Part]:
    """Remove from `pending` the next batch: the oldest part and those of its cluster that fit beside it, in order."""
    cluster = pending[0].job.request.cluster
    taken: list[Part] = []
    left: list[Part] = []
    rows = 0
    for part in pending:
        if part.job.request.cluster == cluster and rows + part.rows <= max_rows:
            rows += part.rows
            taken.append(part)
        else:
            left.append(part)
    pending[:] = left
    return taken


@dataclass(slots=True)
class _Rows:
    """A batch's R paths, one row each; `[PAD]`, whose probability is always 0, fills up ragged id lists."""

    owners: list[tuple[Job, int]]
    uniforms: NDArray[np.float64]
    watched: Tensor
    forbidden: Tensor
    greedy: Tensor
    steps: NDArray[np.int64]
    tokens: NDArray[np.int64] = field(init=False)
    probabilities: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        R, T = self.uniforms.shape
        self.tokens = np.zeros((R, T), np.int64)
        self.probabilities = np.zeros((R, T, self.watched.shape[1]))

    @classmethod
    def of(cls, parts: Sequence[Part]) -> _Rows:
        owners = [(part.job, sample) for part in parts for sample in range(part.first, part.last)]
        requests = [job.request for job, _ in owners]
        T = max(request.max_steps for request in requests)
        uniforms = np.zeros((len(owners), T))
        for row, (job, sample) in enumerate(owners):
            uniforms[row, : job.request.max_steps] = job.uniforms[sample]
        return cls(
            owners=owners,
            uniforms=uniforms,
            watched=_padded([request.watched for request in requests]),
            forbidden=_padded([(*NEVER, *request.forbidden) for request in requests]),
            greedy=torch.tensor([request.greedy for request in requests]),
            steps=np.array([request.max_steps for request in requests]),
        )


def _padded(ids: Sequence[tuple[int, ...]]) -> Tensor:
    """int64 [len(ids), longest], filled up with `[PAD]`; on the right."""
    width = max(map(len, ids))
    return torch.tensor([(*row, *(PAD,) * (width - len(row))) for row in ids], dtype=torch.long).view(len(ids), width)


@torch.inference_mode()
def _generate(model: Any, rows: _Rows, stopping: threading.Event) -> None:
    """Sample every row to its end, answering each job as soon as its last path is complete."""
    logits, cache, mask, lengths = _read(model, [job.request.prompt for job, _ in rows.owners])
    jobs = dict.fromkeys(job for job, _ in rows.owners)
    active = np.arange(len(rows.owners))
    step = 0
    while True:
        index = torch.from_numpy(active)
        drawn, own, sound = draw(
            logits, rows.forbidden[index], rows.greedy[index], torch.from_numpy(rows.uniforms[active, step])
        )
        rows.tokens[active, step] = drawn.numpy()
        rows.probabilities[active, step] = own.gather(1, rows.watched[index]).numpy()
        for row in active[~sound.numpy()]:
            rows.owners[row][0].fail(EngineError("the predictor's probabilities are not numbers"))
        step += 1
        ended = (drawn.numpy() == EOS) | (step >= rows.steps[active])
        for row in active[ended]:
            job, sample = rows.owners[row]
            W = len(job.request.watched)
            tokens = tuple(map(int, rows.tokens[row, :step]))
            job.add(sample, Path(tokens, rows.probabilities[row, :step, :W].copy(), tokens[-1] == EOS))
        if stopping.is_set():
            for job in jobs:
                job.fail(EngineError("the local engine was stopped"))
        over = {job for job in jobs if job.over()}
        kept = np.flatnonzero(~ended & np.array([rows.owners[row][0] not in over for row in active]))
        if not len(kept):
            return
        if len(kept) < len(active):
            selected = torch.from_numpy(kept)
            active, drawn, lengths = active[kept], drawn[selected], lengths[selected]
            mask = None if mask is None else mask[selected]
            cache.batch_select_indices(selected)
        if mask is not None:
            mask = torch.cat((mask, mask.new_ones(len(active), 1)), dim=1)
        out = model(
            input_ids=drawn[:, None],
            attention_mask=mask,
            position_ids=lengths[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        logits, lengths = out.logits[:, -1], lengths + 1


def _read(model: Any, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Any, Tensor | None, Tensor]:
    """Prefill: each distinct prompt once, left-padded. Returns, with one row per given prompt: logits [R, V] after it,
    the cache, the attention mask [R, L] (None where nothing is padded), and the prompts' lengths [R]."""
    place = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    length = max(map(len, place))
    ids = torch.tensor([(*(PAD,) * (length - len(prompt)), *prompt) for prompt in place])
    lengths = torch.tensor([len(prompt) for prompt in place])
    positions = torch.arange(length) - (length - lengths)[:, None]
    mask = (positions >= 0).long() if bool((lengths < length).any()) else None
    out = model(
        input_ids=ids, attention_mask=mask, position_ids=positions.clamp_min(0), use_cache=True, logits_to_keep=1
    )
    rows = torch.tensor([place[prompt] for prompt in prompts])
    out.past_key_values.batch_select_indices(rows)
    return out.logits[rows, -1], out.past_key_values, None if mask is None else mask[rows], lengths[rows]


def draw(logits: Tensor, forbidden: Tensor, greedy: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of `browsing.engines.sampling.walk` for R rows, in float64.

    `logits` [R, V], `forbidden` int64 [R, F], `greedy` bool [R], `uniforms` float64 [R]. Returns the drawn ids [R], the
    probabilities [R, V] renormalised over all ids but `[PAD]` and `[BOS]`, and whether there was anything to draw [R].
    """
    logits = logits.double()
    logits[:, list(NEVER)] = -torch.inf
    own = logits.softmax(-1)
    choices = own.scatter(1, forbidden, 0.0)
    cumulative = choices.cumsum(-1)
    total = cumulative[:, -1]
    drawn = torch.searchsorted(cumulative, (uniforms * total)[:, None], right=True)[:, 0]
    beyond = drawn == choices.shape[1]  # u * total was rounded up to total
    if bool(beyond.any()):
        last = choices.shape[1] - 1 - (choices.flip(-1) > 0).long().argmax(-1)
        drawn = torch.where(beyond, last, drawn)
    if bool(greedy.any()):
        drawn = torch.where(greedy, choices.argmax(-1), drawn)
    return drawn, own, total > 0
