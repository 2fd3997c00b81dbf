"""What rows attend to: their prompt, kept once however many rows go on from it, and what each has sampled itself.

Two softmaxes become one through the prompt's log-sum-exp: it enters a row's own scores as one more score, whose value
is what the prompt's part alone answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from browsing.engines.llamas import Shape

Ints = NDArray[np.int64]

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""What `scaled_dot_product_attention` calls on a CPU; by itself it also returns the log-sum-exps."""


MOST_PROMPTS, FEWEST_PROMPTS = 128, 4
FEWEST_ROWS = 64
BUDGET = 256 << 20
"""Bytes that what rows sample may take, and half as many for prompts, which are fewer; for large models as much as the
fewest take. All of it is taken, and written, at the start: an operator then sees on the first day what a burst will
need."""


def affordable(shape: Shape, rows: int, steps: int) -> tuple[int, int]:
    """How many prompts, and how many of the `rows` that are wished for, fit into the budget."""
    per_token = 2 * 4 * shape.layers * shape.heads * shape.head
    prompts = max(FEWEST_PROMPTS, BUDGET // 2 // (per_token * shape.positions))
    fitting = max(FEWEST_ROWS, BUDGET // (per_token * (1 + steps)))
    return min(MOST_PROMPTS, rows, prompts), min(rows, fitting)


class Prompts:
    """Keys and values of at most `most` prompts, in places 0 to `count` - 1."""

    def __init__(self, shape: Shape, most: int) -> None:
        self.kept = torch.zeros(shape.layers, most, 2, shape.heads, shape.positions, shape.head)
        self.lengths = np.zeros(most, np.int64)
        self.most = most
        self.count = 0

    def drop(self, place: int) -> int:
        """The last prompt takes the place; returns where that one was."""
        self.count = last = self.count - 1
        if place != last:
            length = self.lengths[last]
            self.kept[:, place, :, :, :length] = self.kept[:, last, :, :, :length]
            self.lengths[place] = length
        return last


class Reading:
    """Prompts that are read together, packed one after another; they take the next places in `prompts`."""

    def __init__(self, shape: Shape, prompts: Prompts, lengths: Sequence[int]) -> None:
        self._shape = shape
        self._prompts = prompts
        longest, count = max(lengths), len(lengths)
        self._first, prompts.count = prompts.count, prompts.count + count
        prompts.lengths[self._first : prompts.count] = lengths
        ends = np.cumsum(lengths)
        within = np.arange(longest)[None, :]
        # A short prompt is filled up with its own last row: what is no number must not come from another prompt.
        padded = (ends - lengths)[:, None] + np.minimum(within, np.array(lengths)[:, None] - 1)
        self._padded = torch.from_numpy(padded.reshape(-1))
        self._packed = torch.from_numpy(np.flatnonzero(within < np.array(lengths)[:, None]))
        self._longest = longest
        self.positions = torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))
        self.last = torch.from_numpy(ends - 1)

    def __call__(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        s, prompts = self._shape, self._prompts
        m = prompts.count - self._first
        queries = q.index_select(0, self._padded).view(m, self._longest, s.heads, s.head).transpose(1, 2)
        kept = prompts.kept[layer, self._first : prompts.count, :, :, : self._longest]
        kept.copy_(kv.index_select(0, self._padded).view(m, self._longest, 2, s.heads, s.head).permute(0, 2, 3, 1, 4))
        seen, _ = _flash(queries, kept[:, 0], kept[:, 1], 0.0, True, scale=1.0)
        answer: Tensor = seen.transpose(1, 2).reshape(m * self._longest, -1)
        return answer.index_select(0, self._packed)


class Suffixes:
    """Keys and values of what at most `rows` rows have sampled, `steps` each at most. A row's first place is not its
    own: there a step puts what the prompt answers."""

    def __init__(self, shape: Shape, rows: int, steps: int) -> None:
        d = shape.heads * shape.head
        self._shape = shape
        self.kept = torch.zeros(shape.layers, rows, 2, 1 + steps, d)
        self.products = torch.zeros(rows * (1 + steps) * d)
        self.steps = steps
        self.heads = torch.eye(shape.heads).repeat_interleave(shape.head, dim=0)
        """[d, heads]: sums each head's products."""

    def grown(self, steps: int, rows: int) -> Suffixes:
        """The same for more steps, of which the first `rows` are in use."""
        larger = Suffixes(self._shape, self.kept.shape[1], steps)
        larger.kept[:, :rows, :, : 1 + self.steps] = self.kept[:, :rows]
        return larger

    def copy(self, source: Ints, target: Ints, steps: int) -> None:
        """Rows that have sampled at most `steps` tokens."""
        self.kept[:, target, :, : 1 + steps] = self.kept[:, source, :, : 1 + steps]


class Going:
    """One step of all rows. Their order is the model's, grouped by cluster; `slots` [R] says where each is kept, a
    permutation of 0 to R - 1. `steps` [R]: tokens that each has sampled before this one. `prompts` [R]: the place of
    each one's prompt."""

    def __init__(
        self, shape: Shape, read: Prompts, suffixes: Suffixes, slots: Ints, steps: Ints, prompts: Ints
    ) -> None:
        self._shape = shape
        self._read, self._suffixes = read, suffixes
        R, G = len(slots), read.count
        self._slots = torch.from_numpy(slots)
        own = 2 * slots[:, None] + np.arange(2)  # each row's keys, then its values
        self._places = torch.from_numpy((own * (1 + suffixes.steps) + 1 + steps[:, None]).reshape(-1))
        self._as_kept = bool((slots == np.arange(R)).all())
        inverse = np.empty(R, np.int64)
        inverse[slots] = np.arange(R)
        self._inverse = torch.from_numpy(inverse)
        self._wide = int(steps.max()) + 2
        late = steps + 2 < self._wide
        self._later = None
        if late.any():  # places that other rows have filled and this one has not
            later = np.zeros((R, self._wide, 1), np.float32)
            later[np.arange(self._wide)[None, :, None] >= (steps[inverse] + 2)[:, None, None]] = -np.inf
            self._later = torch.from_numpy(later)
        counts = np.bincount(prompts, minlength=G)
        N = int(counts.max())
        order = np.argsort(prompts, kind="stable")
        number = np.empty(R, np.int64)
        number[order] = np.arange(R) - np.repeat(np.cumsum(counts) - counts, counts)
        padded = np.zeros(G * N, np.int64)
        place = prompts * N + number
        padded[place] = np.arange(R)
        self._groups = (G, N)
        self._padded, self._place = torch.from_numpy(padded), torch.from_numpy(place[inverse])
        lengths = read.lengths[:G]
        self._longest = int(lengths.max())
        self._beyond = None
        if (lengths < self._longest).any():
            beyond = np.where(np.arange(self._longest)[None, :] < lengths[:, None], 0.0, -np.inf).astype(np.float32)
            self._beyond = torch.from_numpy(beyond)[:, None, None, :]

    def __call__(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        s, suffixes, R = self._shape, self._suffixes, len(q)
        (G, N), wide, d = self._groups, self._wide, s.heads * s.head
        kept = suffixes.kept[layer]
        kept.view(-1, d).index_copy_(0, self._places, kv.reshape(2 * R, d))
        kept = kept[:R, :, :wide]
        q = q.reshape(R, d)
        queries = q.index_select(0, self._padded).view(G, N, s.heads, s.head).transpose(1, 2)
        read = self._read.kept[layer, :G, :, :, : self._longest]
        seen, weight = _flash(queries, read[:, 0], read[:, 1], 0.0, False, attn_mask=self._beyond, scale=1.0)
        kept[:, 1, 0] = seen.transpose(1, 2).reshape(G * N, d).index_select(0, self._place)
        own = q if self._as_kept else q.index_select(0, self._inverse)
        products = suffixes.products[: R * wide * d].view(R, wide, d)
        torch.mul(kept[:, 0], own[:, None], out=products)
        scores = (products.view(R * wide, d) @ suffixes.heads).view(R, wide, s.heads)
        scores[:, 0] = weight.transpose(1, 2).reshape(G * N, s.heads).index_select(0, self._place)
        if self._later is not None:
            scores += self._later
        weights = scores.softmax(1).view(R * wide, s.heads)
        torch.mm(weights, suffixes.heads.t(), out=products.view(R * wide, d))
        answer = products.mul_(kept[:, 1]).sum(1)
        return answer if self._as_kept else answer.index_select(0, self._slots)
