"""Paths of all clusters, one step at a time: requests join between two steps, and a path leaves at its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray

from browsing.engine import MAX_WATCHED, EngineError, Path
from browsing.engines.attention import Going, Prompts, Reading, Suffixes, affordable
from browsing.engines.drawing import draw
from browsing.engines.job import Job, Part, parts
from browsing.engines.llamas import FIRST, Llamas, Span
from browsing.threads import as_many_as_pay
from browsing.vocabulary import EOS

Ints = NDArray[np.int64]
Key = tuple[int, tuple[int, ...]]
"""A cluster and a prompt."""

STEPS = 32
"""What a path may have at first without anything being made larger."""


class Continuous:
    """Implements `browsing.engines.job.Core` over Llamas of one shape.

    Paths with the same prompt that have sampled the same tokens so far are one row of computation, and part where they
    first differ: a branch then gets a copy of the keys and values of what they had in common. A path has a number in
    the arrays below, which it keeps; a branch has a slot for its keys and values, and slots 0 to `_slots` - 1 are in
    use: where one ends, the last moves in.
    """

    def __init__(self, llamas: Llamas, max_rows: int, threads: int | None = None) -> None:
        """`max_rows`: paths at once, at most; fewer of a model whose keys and values take much memory. `threads`: of
        torch, at most; by default as many as it has now. Raises `MemoryError`."""
        shape = llamas.shape
        self._threads = torch.get_num_threads() if threads is None else threads
        most, max_rows = affordable(shape, min(max_rows, llamas.rows), STEPS)
        self._llamas = llamas
        self._max_rows = max_rows
        self._waiting: deque[Part] = deque()
        self._joining: list[Part] = []
        self._prompts = Prompts(shape, most)
        self._suffixes = Suffixes(shape, max_rows, STEPS)
        self._places: dict[Key, int] = {}
        self._shared = np.zeros(self._prompts.most, np.int64)  # paths that go on from each prompt
        self._clusters = np.zeros(self._prompts.most, np.int64)
        self._first = torch.zeros(self._prompts.most, shape.width)  # logits after each
        self._nobody = shape.vocabulary - FIRST  # the id that no page has
        self._running = np.zeros(0, np.int64)  # numbers
        self._free = list(range(max_rows))
        self._owners: list[tuple[Job, int] | None] = [None] * max_rows
        self._prompt = np.zeros(max_rows, np.int64)
        self._taken = np.zeros(max_rows, np.int64)  # tokens sampled
        self._limit = np.zeros(max_rows, np.int64)
        self._greedy = np.zeros(max_rows, np.bool_)
        self._uniforms = np.zeros((max_rows, STEPS))
        self._tokens = np.zeros((max_rows, STEPS), np.int64)
        self._probabilities = np.zeros((max_rows, STEPS, MAX_WATCHED), np.float32)
        self._watched = np.full((max_rows, MAX_WATCHED), self._nobody)
        self._watches = np.zeros(max_rows, np.int64)
        self._forbidden = np.full((max_rows, 1), self._nobody)
        self._slot = np.zeros(max_rows, np.int64)
        self._slots = 0
        self._leader = np.zeros(max_rows, np.int64)  # by slot: the number of one of its paths

    def submit(self, jobs: Sequence[Job]) -> None:
        self._waiting += parts(jobs, self._max_rows)

    @property
    def busy(self) -> bool:
        return bool(len(self._running) or self._waiting)

    @torch.inference_mode()
    def step(self) -> None:
        try:
            with self._paying(0):  # alone, but for what follows
                self._leave()
                self._join()
                if len(self._running):
                    with self._paying(self._slots):
                        self._advance()
        except Exception as error:  # the worker must outlive whatever torch raises
            self._fail_running(EngineError(f"the predictor failed: {error}"))

    def fail_all(self, error: Exception) -> None:
        self._fail_running(error)
        for part in self._waiting:
            part.job.fail(error)
        self._waiting.clear()

    def _fail_running(self, error: Exception) -> None:
        """Whatever state they are in; nothing of them stays."""
        for job in {owner[0] for owner in self._owners if owner is not None}:
            job.fail(error)
        for part in self._joining:
            part.job.fail(error)
        self._joining = []
        self._owners = [None] * self._max_rows
        self._free = list(range(self._max_rows))
        self._running = self._running[:0]
        self._slots = self._prompts.count = 0
        self._places.clear()
        self._shared[:] = 0

    def _paying(self, rows: int) -> AbstractContextManager[None]:
        """So many threads as pay off for the products of so many rows."""
        return as_many_as_pay(rows * self._llamas.shape.multiplications, self._threads)

    def _leave(self) -> None:
        """Those for whom nobody waits any more."""
        over = {job for job in self._jobs(self._running) if job.over()}
        if over:
            self._remove(np.array([n for n in self._running.tolist() if self._owner(n)[0] in over]))
            self._regroup()

    def _join(self) -> None:
        """As many of the waiting, in their order, as there is room for; their prompts are read, their first tokens
        drawn."""
        reading: dict[Key, None] = {}
        paths = longest = 0
        while self._waiting:
            part = self._waiting[0]
            if not part.job.over():
                key = (part.job.request.cluster, part.job.request.prompt)
                room = self._max_rows - len(self._running) - paths
                if self._together(key) > room:
                    break
                if key not in self._places and key not in reading:
                    longest = max(longest, len(key[1]))
                    if (1 + len(reading)) * longest > self._llamas.rows:  # as they are computed, all as long
                        break
                    if len(self._places) + len(reading) == self._prompts.most:
                        break
                    reading[key] = None
                paths += part.rows
                self._joining.append(part)
                part.job.join()
            self._waiting.popleft()
        if not self._joining:
            return
        if reading:
            tokens = sum(len(prompt) for _, prompt in reading)
            with self._paying(tokens):
                self._read(sorted(reading))
        numbers = np.concatenate([self._enter(part) for part in self._joining])
        self._joining = []
        places, which = np.unique(self._prompt[numbers], return_inverse=True)
        going = self._draw(numbers, self._first.index_select(0, torch.from_numpy(places)), which)
        self._plant(going)

    def _together(self, key: Key) -> int:
        """Paths of the first that waits and of those behind it that ask the same: they share what they compute only if
        they join together. Of more than there is ever room for, those of the first."""
        paths = 0
        for part in self._waiting:
            if (part.job.request.cluster, part.job.request.prompt) != key:
                break
            paths += part.rows
        return paths if paths <= self._max_rows else self._waiting[0].rows

    def _read(self, keys: Sequence[Key]) -> None:
        """Prompts of clusters in order."""
        first = self._prompts.count
        reading = Reading(self._llamas.shape, self._prompts, [len(prompt) for _, prompt in keys])
        ids = torch.tensor([token for _, prompt in keys for token in prompt])
        clusters = np.array([cluster for cluster, _ in keys])
        every = np.repeat(clusters, [len(prompt) for _, prompt in keys])
        hidden = self._llamas.forward(ids, _spans(every), reading.positions, reading)
        logits = self._llamas.logits(hidden.index_select(0, reading.last), _spans(clusters))
        self._first[first : first + len(keys)] = logits
        self._clusters[first : first + len(keys)] = clusters
        self._places.update({key: first + i for i, key in enumerate(keys)})

    def _enter(self, part: Part) -> Ints:
        """The numbers of its paths."""
        request = part.job.request
        self._widen(request.max_steps, len(request.forbidden))
        numbers = np.array([self._free.pop() for _ in range(part.rows)])
        for sample, n in zip(range(part.first, part.last), numbers, strict=True):
            self._owners[n] = (part.job, sample)
        place = self._places[request.cluster, request.prompt]
        self._shared[place] += part.rows
        self._prompt[numbers] = place
        self._taken[numbers] = 0
        self._limit[numbers] = request.max_steps
        self._greedy[numbers] = request.greedy
        self._uniforms[numbers, : request.max_steps] = part.job.uniforms[part.first : part.last]
        for table, ids in ((self._watched, request.watched), (self._forbidden, request.forbidden)):
            table[numbers] = self._nobody
            table[numbers, : len(ids)] = [i - FIRST if i >= FIRST else self._nobody for i in ids]
        self._watches[numbers] = len(request.watched)
        return numbers

    def _widen(self, steps: int, forbidden: int) -> None:
        """Make room for paths of `steps` tokens and for so many forbidden ids; what is there is kept."""
        if steps > self._suffixes.steps:
            self._suffixes = self._suffixes.grown(steps, self._slots)
        if (more := steps - self._tokens.shape[1]) > 0:
            self._uniforms = np.pad(self._uniforms, ((0, 0), (0, more)))
            self._tokens = np.pad(self._tokens, ((0, 0), (0, more)))
            self._probabilities = np.pad(self._probabilities, ((0, 0), (0, more), (0, 0)))
        if (more := forbidden - self._forbidden.shape[1]) > 0:
            self._forbidden = np.pad(self._forbidden, ((0, 0), (0, more)), constant_values=self._nobody)

    def _advance(self) -> None:
        leaders = self._leader[: self._slots]
        slots = np.argsort(self._clusters[self._prompt[leaders]], kind="stable")
        ordered = leaders[slots]
        prompts, before = self._prompt[ordered], self._taken[ordered] - 1
        spans = _spans(self._clusters[prompts])
        going = Going(self._llamas.shape, self._prompts, self._suffixes, slots, before, prompts)
        ids = torch.from_numpy(self._tokens[ordered, before])
        positions = torch.from_numpy(self._prompts.lengths[prompts] + before)
        hidden = self._llamas.forward(ids, spans, positions, going)
        rows = np.empty(self._slots, np.int64)
        rows[slots] = np.arange(self._slots)
        self._draw(self._running, self._llamas.logits(hidden, spans), rows[self._slot[self._running]])
        self._regroup()

    def _draw(self, numbers: Ints, logits: torch.Tensor, rows: Ints) -> Ints:
        """The next token of each path, from `logits` [N, width] at its row; those that it ends are answered and leave.
        Returns those that go on."""
        own = torch.softmax(logits, -1).numpy()
        step = self._taken[numbers]
        W = int(self._watches[numbers].max())
        self._probabilities[numbers, step, :W] = own[rows[:, None], self._watched[numbers, :W]]
        uniforms = self._uniforms[numbers, step]
        drawn, sound = draw(own, rows, uniforms, self._greedy[numbers], self._forbidden[numbers])
        drawn += FIRST
        self._tokens[numbers, step] = drawn
        self._taken[numbers] = step = step + 1
        if not sound.all():
            spoiled = np.isin(self._prompt[numbers], self._prompt[numbers[~sound]])
            self._wipe(numbers[spoiled])
            numbers, drawn, step = numbers[~spoiled], drawn[~spoiled], step[~spoiled]
        ended = (drawn == EOS) | (step >= self._limit[numbers])
        for n, length in zip(numbers[ended].tolist(), step[ended].tolist(), strict=True):
            job, sample = self._owner(n)
            tokens = tuple(self._tokens[n, :length].tolist())
            probabilities = self._probabilities[n, :length, : self._watches[n]].astype(np.float64)
            job.add(sample, Path(tokens, probabilities, tokens[-1] == EOS))
        if ended.any():
            self._remove(numbers[ended])
        left: Ints = numbers[~ended]
        return left

    def _plant(self, numbers: Ints) -> None:
        """Paths with one token each begin to run: a new slot for every prompt and token."""
        _, leading, which = np.unique(
            self._prompt[numbers] * self._llamas.shape.vocabulary + self._tokens[numbers, 0],
            return_index=True,
            return_inverse=True,
        )
        self._slot[numbers] = self._slots + which
        self._leader[self._slots : self._slots + len(leading)] = numbers[leading]
        self._slots += len(leading)
        self._running = np.concatenate((self._running, numbers))

    def _regroup(self) -> None:
        """Give every branch that goes on its own slot."""
        numbers = self._running
        keys = self._slot[numbers] * self._llamas.shape.vocabulary + self._tokens[numbers, self._taken[numbers] - 1]
        _, leading, which = np.unique(keys, return_index=True, return_inverse=True)
        leaders = numbers[leading]
        slots = self._slot[leaders]  # in order, since the keys are
        left = np.ones(self._slots, np.bool_)
        left[slots] = False
        holes = np.flatnonzero(left)
        extra = np.flatnonzero(slots[1:] == slots[:-1]) + 1
        if len(extra):
            fresh = np.concatenate((holes, np.arange(self._slots, self._slots + len(extra))))[: len(extra)]
            holes = holes[len(extra) :]
            self._suffixes.copy(slots[extra], fresh, int(self._taken[leaders[extra]].max()) - 1)
            slots[extra] = fresh
        count = len(leaders)
        movers = np.flatnonzero(slots >= count)
        if len(movers):
            holes = holes[: len(movers)]
            self._suffixes.copy(slots[movers], holes, int(self._taken[leaders[movers]].max()) - 1)
            slots[movers] = holes
        self._slot[numbers] = slots[which]
        self._leader[slots] = leaders
        self._slots = count

    def _wipe(self, numbers: Ints) -> None:
        """Fail all that goes on from these paths' prompts, and wipe what it leaves: masked or not, what is no number
        spreads to whoever gets the place next."""
        prompts = np.unique(self._prompt[numbers])
        running = self._running[np.isin(self._prompt[self._running], prompts)]
        numbers = np.union1d(numbers, running)
        for job in self._jobs(numbers):
            job.fail(EngineError("the predictor's probabilities are not numbers"))
        self._suffixes.kept[:, np.unique(self._slot[running])] = 0.0
        self._prompts.kept[:, prompts] = 0.0
        self._remove(numbers)
        self._regroup()

    def _remove(self, numbers: Ints) -> None:
        """Free the numbers of these paths, and the prompts that no other goes on from; not yet their slots."""
        gone = np.zeros(self._max_rows, np.bool_)
        gone[numbers] = True
        self._running = self._running[~gone[self._running]]
        for n in numbers.tolist():
            self._owners[n] = None
            self._free.append(n)
        self._shared -= np.bincount(self._prompt[numbers], minlength=len(self._shared))
        for place in sorted(set(self._prompt[numbers].tolist()), reverse=True):  # who moves in stays
            if not self._shared[place]:
                self._forget(place)

    def _forget(self, place: int) -> None:
        last = self._prompts.drop(place)
        keys = {at: key for key, at in self._places.items()}
        del self._places[keys[place]]
        if last != place:
            self._places[keys[last]] = place
            self._first[place] = self._first[last]
            self._clusters[place] = self._clusters[last]
            self._shared[place], self._shared[last] = self._shared[last], 0
            self._prompt[self._prompt == last] = place

    def _jobs(self, numbers: Ints) -> set[Job]:
        return {self._owner(n)[0] for n in numbers.tolist()}

    def _owner(self, number: int) -> tuple[Job, int]:
        owner = self._owners[number]
        assert owner is not None, "a path under way belongs to somebody"
        return owner


def _spans(clusters: Ints) -> list[Span]:
    """Of clusters in order: each one's first row, and the one after its last."""
    present, first = np.unique(clusters, return_index=True)
    ends = [*first[1:].tolist(), len(clusters)]
    return list(zip(present.tolist(), first.tolist(), ends, strict=True))
