"""The embedded engine: predictors in this process, a plain key-value-cache loop over `transformers` models."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from browsing.engine import EngineError, EngineTimeout, GenerateRequest, Path
from browsing.engines.sampling import noise
from browsing.vocabulary import BOS, EOS, NEVER, PAD

HEALTH_SECONDS = 5.0


class _Job:
    """One request on its way: its random numbers, the paths finished so far, and where the answer goes."""

    def __init__(self, request: GenerateRequest) -> None:
        self.request = request
        self.expires = time.monotonic() + request.deadline
        self.future: Future[list[Path]] = Future()
        self.uniforms = noise(request)
        self._paths: dict[int, Path] = {}

    def add(self, sample: int, path: Path) -> None:
        self._paths[sample] = path
        if len(self._paths) == self.request.samples:
            self._settle(lambda: self.future.set_result([self._paths[s] for s in range(self.request.samples)]))

    def fail(self, error: Exception) -> None:
        self._settle(lambda: self.future.set_exception(error))

    def over(self) -> bool:
        """Whether nobody waits for more: answered, cancelled, or out of time."""
        if not self.future.done() and time.monotonic() > self.expires:
            self.fail(EngineTimeout(f"no complete answer within {self.request.deadline} s"))
        return self.future.done()

    def _settle(self, settle: Any) -> None:
        try:
            settle()
        except InvalidStateError:  # cancelled in this very moment
            return


@dataclass(frozen=True, slots=True)
class _Part:
    """Samples `first`..`last - 1` of a job: what one batch takes of it."""

    job: _Job
    first: int
    last: int


@dataclass(slots=True)
class _Predictor:
    model: Any
    vocabulary: int
    positions: int

    @classmethod
    def load(cls, directory: FilePath, dtype: torch.dtype) -> _Predictor:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        model = AutoModelForCausalLM.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, dtype=dtype, attn_implementation="sdpa"
        ).eval()
        return cls(model, int(model.config.vocab_size), int(model.config.max_position_embeddings))


class LocalEngine:
    """Implements `browsing.engine.Engine` on in-process torch.

    One worker thread owns the models. Requests that arrive together, or while it is busy, form its next batch: one
    cluster, at most `max_rows` paths. Each distinct prompt is read once and its cache shared out to all its paths; a
    path that ended leaves the batch. A path depends on its request alone, but for the rounding of float sums: beside
    other rows a probability may differ by 1e-7, and a draw only where its random number lies that close to a boundary.
    """

    def __init__(
        self,
        predictors: Sequence[FilePath],
        *,
        threads: int | None = None,
        max_rows: int = 512,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`predictors`: one Hugging Face directory per cluster. `threads`: torch's, for the whole process; by default
        as it is. Raises `ValueError` for no predictor or no row."""
        if not predictors or max_rows < 1:
            raise ValueError(f"{len(predictors)} predictors with {max_rows} rows: both must be at least 1")
        self._directories = list(predictors)
        self._threads = threads
        self._max_rows = max_rows
        self._dtype = dtype
        self._predictors: list[_Predictor] = []
        self._worker: _Worker | None = None
        self._arrived: list[_Job] = []

    async def start(self) -> None:
        """Load the predictors. Raises `EngineError` naming the first that cannot be loaded or gives no token."""
        if self._worker is not None:
            return
        await asyncio.to_thread(self._load)
        self._worker = _Worker(self._predictors, self._max_rows, self._threads)
        dead = [k for k, alive in (await self.healthy()).items() if not alive]
        if dead:
            await self.stop()
            raise EngineError(f"{self._directories[dead[0]]} is loaded but gives no token")

    async def generate(self, request: GenerateRequest) -> list[Path]:
        if self._worker is None:
            raise EngineError("the local engine is not running")
        self._check(request)
        job = _Job(request)
        # Handed over in the loop's next round: requests gathered in this one then reach the worker as one batch.
        self._arrived.append(job)
        asyncio.get_running_loop().call_soon(self._hand_over)
        try:
            async with asyncio.timeout(request.deadline):
                return await asyncio.wrap_future(job.future)
        except TimeoutError as error:
            raise EngineTimeout(f"no complete answer within {request.deadline} s") from error

    def generate_batch(self, requests: Sequence[GenerateRequest]) -> list[list[Path]]:
        """The synchronous core: answer all `requests`, in order, in the calling thread; `start` is not needed.

        Not to be called while the engine is running (its worker owns the models). Raises what `generate` raises.
        """
        if not self._predictors:
            self._load()
        for request in requests:
            self._check(request)
        jobs = [_Job(request) for request in requests]
        pending = _parts(jobs, self._max_rows)
        while pending:
            run_batch(self._predictors, _take(pending, self._max_rows))
        return [job.future.result() for job in jobs]

    async def healthy(self) -> dict[int, bool]:
        clusters = range(len(self._directories))
        return dict(zip(clusters, await asyncio.gather(*(self._alive(k) for k in clusters)), strict=True))

    async def stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.stop)
        self._predictors = []

    async def _alive(self, cluster: int) -> bool:
        try:
            await self.generate(GenerateRequest(cluster, (BOS,), 1, 1, greedy=True, deadline=HEALTH_SECONDS))
        except EngineError:
            return False
        return True

    def _hand_over(self) -> None:
        jobs, self._arrived = self._arrived, []
        if self._worker is None:
            for job in jobs:
                job.fail(EngineError("the local engine was stopped"))
        elif jobs:
            self._worker.submit(jobs)

    def _load(self) -> None:
        predictors = []
        for directory in self._directories:
            try:
                predictors.append(_Predictor.load(directory, self._dtype))
            except (OSError, ValueError, RuntimeError) as error:
                raise EngineError(f"{directory}: cannot be loaded as a causal language model: {error}") from error
        self._predictors = predictors

    def _check(self, request: GenerateRequest) -> None:
        if not 0 <= request.cluster < len(self._predictors):
            raise ValueError(f"no cluster {request.cluster}: there are {len(self._predictors)}")
        predictor = self._predictors[request.cluster]
        for token in (*request.prompt, *request.watched, *request.forbidden):
            if not 0 <= token < predictor.vocabulary:
                raise ValueError(f"token id {token} is outside the vocabulary of {predictor.vocabulary}")
        if len(request.prompt) + request.max_steps > predictor.positions:
            raise ValueError(
                f"a prompt of {len(request.prompt)} tokens and {request.max_steps} steps do not fit into the model's "
                f"{predictor.positions} positions"
            )
        if len({*request.forbidden, *NEVER}) == predictor.vocabulary:
            raise ValueError("nothing is allowed: every token is forbidden")


class _Worker:
    """The thread that owns the models, and its queue."""

    def __init__(self, predictors: Sequence[_Predictor], max_rows: int, threads: int | None) -> None:
        self._predictors = predictors
        self._max_rows = max_rows
        self._threads = threads
        self._queue: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hetlm-local-engine", daemon=True)
        self._thread.start()

    def submit(self, jobs: list[_Job]) -> None:
        self._queue.put(jobs)

    def stop(self) -> None:
        """Fail what is waiting or running, and join."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        pending: list[_Part] = []
        while not self._stopping.is_set():
            if not pending:
                pending += _parts(self._queue.get() or [], self._max_rows)
            while not self._queue.empty():
                pending += _parts(self._queue.get() or [], self._max_rows)
            if pending:
                run_batch(self._predictors, _take(pending, self._max_rows), self._stopping)
        while not self._queue.empty():
            pending += _parts(self._queue.get() or [], self._max_rows)
        for part in pending:
            part.job.fail(EngineError("the local engine was stopped"))


def _parts(jobs: Sequence[_Job], max_rows: int) -> list[_Part]:
    return [
        _Part(job, first, min(first + max_rows, job.request.samples))
        for job in jobs
        for first in range(0, job.request.samples, max_rows)
    ]


def _take(pending: list[_Part], max_rows: int) -> list[_Part]:
    """Remove from `pending` the next batch: the oldest part and those of its cluster that fit beside it, in order."""
    cluster = pending[0].job.request.cluster
    taken: list[_Part] = []
    left: list[_Part] = []
    rows = 0
    for part in pending:
        size = part.last - part.first
        if part.job.request.cluster == cluster and rows + size <= max_rows:
            rows += size
            taken.append(part)
        else:
            left.append(part)
    pending[:] = left
    return taken


def run_batch(predictors: Sequence[_Predictor], parts: list[_Part], stopping: threading.Event | None = None) -> None:
    """Answer the parts of one cluster. Never raises: a job's error is its future's."""
    parts = [part for part in parts if not part.job.over()]
    if not parts:
        return
    try:
        _generate(predictors[parts[0].job.request.cluster].model, _Rows.of(parts), stopping)
    except Exception as error:  # the worker must outlive whatever torch raises
        for part in parts:
            part.job.fail(EngineError(f"the predictor failed: {error}"))


@dataclass(slots=True)
class _Rows:
    """A batch's R paths, one row each; `[PAD]`, whose probability is always 0, fills up ragged id lists."""

    owners: list[tuple[_Job, int]]
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
    def of(cls, parts: Sequence[_Part]) -> _Rows:
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
def _generate(model: Any, rows: _Rows, stopping: threading.Event | None) -> None:
    """Sample every row to its end, answering each job as soon as its last path is complete."""
    logits, cache, mask, lengths = _read(model, [job.request.prompt for job, _ in rows.owners])
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
        if stopping is not None and stopping.is_set():
            for job, _ in rows.owners:
                job.fail(EngineError("the local engine was stopped"))
        over = {job: job.over() for job, _ in rows.owners}
        kept = np.flatnonzero(~ended & np.array([not over[rows.owners[row][0]] for row in active]))
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
