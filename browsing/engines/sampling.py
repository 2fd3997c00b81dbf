"""Drawing tokens so that a request's answer depends on its seed alone, never on what shares its batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from browsing.engine import GenerateRequest, Path
from browsing.vocabulary import EOS, NEVER


def noise(request: GenerateRequest) -> NDArray[np.float64]:
    """The request's uniform numbers, float64 [samples, max_steps]: step t of path s is drawn with `[s, t]`."""
    generator = np.random.Generator(np.random.Philox(key=request.seed))
    return generator.random((request.samples, request.max_steps))


def pick(probabilities: NDArray[np.float64], uniform: float) -> int:
    """Inverse-CDF draw from `probabilities` [V], which need not sum to one. Raises `ValueError` if all are zero."""
    cumulative = np.cumsum(probabilities)
    if not cumulative[-1] > 0:
        raise ValueError("nothing is allowed: every probability is zero")
    index = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return min(index, int(np.flatnonzero(probabilities)[-1]))


def allowed(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """`probabilities` [V] renormalised over the ids that a session can hold (all but `[PAD]` and `[BOS]`)."""
    own = probabilities.copy()
    own[list(NEVER)] = 0.0
    normalised: NDArray[np.float64] = own / own.sum()
    return normalised


def walk(request: GenerateRequest, distribution: Callable[[tuple[int, ...]], NDArray[np.float64]]) -> list[Path]:
    """Answer `request` from any model that gives the next token's distribution [V] after a prefix (prompt included).

    The slow, obvious way: the reference for the faster engines, and the engine of the table and Markov models.
    """
    uniforms = noise(request)
    paths = []
    for sample in range(request.samples):
        tokens: list[int] = []
        watched = []
        while len(tokens) < request.max_steps and (not tokens or tokens[-1] != EOS):
            own = allowed(distribution((*request.prompt, *tokens)))
            watched.append(own[list(request.watched)])
            choices = own.copy()
            choices[list(request.forbidden)] = 0.0
            tokens.append(int(choices.argmax()) if request.greedy else pick(choices, uniforms[sample, len(tokens)]))
        paths.append(Path(tuple(tokens), np.array(watched), tokens[-1] == EOS))
    return paths
