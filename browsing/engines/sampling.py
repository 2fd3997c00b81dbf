"""Drawing tokens so that a request's answer depends on its seed alone, never on what shares its batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from browsing.engine import GenerateRequest, Path
from browsing.vocabulary import EOS, NEVER

BLOCK = 128
"""Ids that are summed together when many rows are drawn from."""
BELOW_ONE = float(np.nextafter(1.0, 0.0))


def noise(request: GenerateRequest) -> NDArray[np.float64]:
    """The request's uniform numbers, float64 [samples, max_steps]: step t of path s is drawn with `[s, t]`.

    Two Latin hypercubes (McKay, Beckman and Conover 1979), one for the paths of even and one for those of odd number:
    of the m numbers of a step in either, one lies in each of [i/m, (i+1)/m), in an order drawn anew for every step. The
    numbers of any one path are independent and uniform, so each path has exactly the model's law and a mean over paths
    is unbiased; its variance is at most m / (m - 1) times that over independent paths (Owen 1997), mostly far less. The
    price: paths of one half are not independent of one another. Those of the other half are, and so are those of
    another request with another seed: what is learnt for a path (`browsing.estimate`) is learnt from these.
    """
    generator = np.random.Generator(np.random.Philox(key=request.seed))
    numbers = np.empty((request.samples, request.max_steps))
    for half in (numbers[::2], numbers[1::2]):
        if m := len(half):
            strata = generator.permuted(np.tile(np.arange(m)[:, None], (1, request.max_steps)), axis=0)
            half[:] = (strata + generator.random(half.shape)) / m
    return np.minimum(numbers, BELOW_ONE)  # a stratum's end is not in it, but the sum may be rounded up to it


def pick(probabilities: NDArray[np.float64], uniform: float) -> int:
    """Inverse-CDF draw from `probabilities` [V], which need not sum to one. Raises `ValueError` if all are zero."""
    cumulative = np.cumsum(probabilities)
    if not cumulative[-1] > 0:
        raise ValueError("nothing is allowed: every probability is zero")
    index = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return min(index, int(np.flatnonzero(probabilities)[-1]))


def picks(choices: NDArray[np.float64], rows: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """`pick` from each of the `rows` [n] of `choices` [m, V], with its own number of `uniforms` [n].

    Sums of blocks of ids say in which block the running sum passes its bound, so that only that one is summed id by id.
    Raises `ValueError` where a row is all zeros.
    """
    m, V = choices.shape
    blocks = np.zeros((m, -(-V // BLOCK), BLOCK))
    blocks.reshape(m, -1)[:, :V] = choices
    before = np.cumsum(blocks.sum(2), axis=1)
    total = before[:, -1]
    if not (total > 0).all():
        raise ValueError("nothing is allowed: every probability is zero")
    bound = uniforms * total[rows]
    block = np.count_nonzero(before[rows] <= bound[:, None], axis=1)
    kept = np.minimum(block, blocks.shape[1] - 1)
    within = blocks[rows, kept].cumsum(1) + np.where(kept > 0, before[rows, kept - 1], 0.0)[:, None]
    place = np.count_nonzero(within <= bound[:, None], axis=1)
    drawn: NDArray[np.int64] = kept * BLOCK + place
    for i in np.flatnonzero(place == BLOCK):  # rounding led past the block's end, or all blocks'
        drawn[i] = np.flatnonzero(choices[rows[i], : (block[i] + 1) * BLOCK])[-1]
    return drawn


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
