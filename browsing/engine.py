"""The engine port: what runs the predictors, and what it gives back.

One contract test suite (tests/browsing/engine_contract.py) runs over every adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MAX_WATCHED = 126
"""vLLM returns the probabilities of at most 128 named ids; `[PAD]` and `[BOS]` take two, for renormalising."""


class EngineError(RuntimeError):
    """The engine gave no usable answer: it refused, broke off, or answered nonsense."""


class EngineDown(EngineError):
    """Nobody is there to ask: it will not change by itself in the next moment."""


class EngineTimeout(EngineError):
    """The deadline passed before the answer was complete."""


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """One sampled next session.

    `tokens`: sampled ids, `[EOS]` last if it ended. `watched`: float64 [len(tokens), len(request.watched)], row t the
    probabilities of the watched ids at step t given the tokens before it: the model's own, renormalised over all ids
    but `[PAD]` and `[BOS]`, BEFORE the request's `forbidden` is applied. `finished`: it ended with `[EOS]` rather than
    at the maximal number of steps.
    """

    tokens: tuple[int, ...]
    watched: NDArray[np.float64]
    finished: bool


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Sample next sessions from one predictor, at temperature 1 over its whole distribution.

    `prompt`: token ids, ending in `[BOS]`. `watched`: at most `MAX_WATCHED` distinct ids. `forbidden`: ids never
    sampled, besides `[PAD]` and `[BOS]`. `greedy`: the single argmax path (`samples` is 1). `seed`: equal requests with
    equal seeds give equal paths within one engine, whatever else is computed beside them. `deadline`: seconds from the
    call, after which `EngineTimeout` is raised.
    """

    cluster: int
    prompt: tuple[int, ...]
    samples: int = 16
    max_steps: int = 20
    watched: tuple[int, ...] = ()
    forbidden: tuple[int, ...] = ()
    greedy: bool = False
    seed: int = 0
    deadline: float = 30.0

    def __post_init__(self) -> None:
        """Raises `ValueError` for a request that no engine may be asked."""
        if not self.prompt:
            raise ValueError("an empty prompt")
        if self.samples < 1 or self.max_steps < 1:
            raise ValueError("samples and max_steps must be at least 1")
        if self.greedy and self.samples != 1:
            raise ValueError("a greedy request has one path: samples must be 1")
        if len(self.watched) > MAX_WATCHED:
            raise ValueError(f"at most {MAX_WATCHED} watched ids, not {len(self.watched)}")
        if len(set(self.watched)) != len(self.watched):
            raise ValueError("watched ids must be distinct")


class Engine(Protocol):
    """Runs K predictors. All methods may be called from many tasks at once; none blocks the event loop."""

    async def start(self) -> None:
        """Load; returns when every cluster has answered one real token. Raises `EngineError`."""

    async def generate(self, request: GenerateRequest) -> list[Path]:
        """`request.samples` paths, each with the model's law; those of even number are independent of those of odd
        number. Raises `EngineError`, `EngineTimeout`, or `ValueError` for an id out of range."""

    async def healthy(self) -> dict[int, bool]:
        """Per cluster, whether a real one-token answer arrives within a few seconds."""

    async def stop(self) -> None:
        """Release everything; idempotent."""
