"""The engine over the mixture of Markov chains: the control of evaluation and the fallback of the service."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from numpy.typing import NDArray

from browsing.engine import EngineTimeout, GenerateRequest, Path
from browsing.engines.sampling import noise, picks
from browsing.markov import MarkovMixture
from browsing.vocabulary import EOS


class MarkovEngine:
    """Answers for every cluster alike: the mixture's own components take the clusters' place."""

    def __init__(self, mixture: MarkovMixture) -> None:
        self.mixture = mixture

    async def start(self) -> None:
        """Nothing to load."""

    async def healthy(self) -> dict[int, bool]:
        return {0: True}

    async def stop(self) -> None:
        """Nothing to release."""

    async def generate(self, request: GenerateRequest) -> list[Path]:
        return await asyncio.to_thread(self.sample, request)

    def sample(self, request: GenerateRequest) -> list[Path]:
        """The paths that `sampling.walk` draws from `mixture.distribution`, all samples one step at a time.

        Raises `ValueError` for an id outside the vocabulary or a prompt that ends in `[EOS]`, `EngineTimeout`.
        """
        started = time.monotonic()
        mixture, S = self.mixture, request.samples
        for token in (*request.prompt, *request.watched, *request.forbidden):
            if not 0 <= token < mixture.vocabulary_size:
                raise ValueError(f"token id {token} is outside the vocabulary of {mixture.vocabulary_size}")
        if request.prompt[-1] == EOS:
            raise ValueError("a prompt ends in [BOS], or inside a session")
        watched, forbidden = np.array(request.watched, np.int64), np.array(request.forbidden, np.int64)
        uniforms = noise(request)
        shares = np.tile(mixture.posterior(request.prompt), (S, 1))
        last = np.full(S, request.prompt[-1])
        live = np.arange(S)
        tokens = np.zeros((S, request.max_steps), np.int64)
        seen = np.zeros((S, request.max_steps, len(watched)))
        lengths = np.zeros(S, np.int64)
        for step in range(request.max_steps):
            if time.monotonic() - started >= request.deadline:
                raise EngineTimeout(f"the Markov engine's deadline of {request.deadline:g} s passed")
            # Paths in the same state share its row: all of them at first, and later those that went the same way.
            first, own = _distinct(np.column_stack([last[live], shares[live]]))
            choices = mixture.rows(last[live[first]], shares[live[first]])
            seen[live, step] = choices[np.ix_(own, watched)]
            choices[:, forbidden] = 0.0
            drawn = choices.argmax(1)[own] if request.greedy else picks(choices, own, uniforms[live, step])
            tokens[live, step] = drawn
            lengths[live] = step + 1
            shares[live] *= mixture.step(last[live], drawn)
            shares[live] /= shares[live].sum(1, keepdims=True)
            last[live] = drawn
            live = live[drawn != EOS]
            if len(live) == 0:
                break
        return [
            Path(tuple(own[:length].tolist()), rows[:length].copy(), bool(own[length - 1] == EOS))
            for own, rows, length in zip(tokens, seen, lengths, strict=True)
        ]


def _distinct(states: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first place of every distinct row of `states` [n, d], [m], and which of these each row is, [n]."""
    places: dict[bytes, int] = {}
    own = [places.setdefault(state.tobytes(), len(places)) for state in states]
    return np.array([own.index(k) for k in range(len(places))], np.int64), np.array(own, np.int64)
