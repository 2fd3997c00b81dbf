"""Drawing the next token of many paths, some of which share a distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from browsing.engines.llamas import BLOCK

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def draw(
    own: NDArray[np.float32], rows: Ints, uniforms: Floats, greedy: NDArray[np.bool_], forbidden: Ints
) -> tuple[Ints, NDArray[np.bool_]]:
    """One token for each of P paths: ids [P], and whether there was anything to draw [P].

    `own` [N, a multiple of BLOCK]: distributions. `rows` [P]: each path's. `uniforms` [P] in [0, 1). `greedy` [P]:
    takes the likeliest. `forbidden` [P, F]: ids that are not drawn.

    Where what a uniform number stands for is forbidden, a second draw among the others follows, with the number's place
    inside the forbidden id's share, which is uniform again: each allowed id has its renormalised probability. Paths
    with equal numbers but different ids forbidden thus stay together until one of them would draw what it may not.
    """
    drawn, left, sound = _pick(own, rows, uniforms)
    again = (forbidden == drawn[:, None]).any(1) | greedy
    if again.any():
        choices = own[rows[again]]
        np.put_along_axis(choices, forbidden[again], 0.0, axis=1)
        second, _, something = _pick(choices, np.arange(len(choices)), left[again])
        drawn[again] = np.where(greedy[again], choices.argmax(1), second)
        sound[again] &= something
    drawn[~sound] = 0
    return drawn, sound


def _pick(choices: NDArray[np.float32], rows: Ints, uniforms: Floats) -> tuple[Ints, Floats, NDArray[np.bool_]]:
    """`browsing.engines.sampling.pick` from `choices[rows]`: ids, each number's place in its id's share, and whether
    the choices are numbers and not all zero. The running sum is looked at block by block, then within one block."""
    blocks = choices.reshape(len(choices), -1, BLOCK)
    before = np.cumsum(blocks.sum(2), axis=1, dtype=np.float64)
    total = before[:, -1]
    sound = np.isfinite(total) & (total > 0)
    before, sound = before[rows], sound[rows]
    bound = uniforms * total[rows]
    block = np.minimum(np.count_nonzero(before <= bound[:, None], axis=1), blocks.shape[1] - 1)
    paths = np.arange(len(rows))
    start = np.where(block > 0, before[paths, block - 1], 0.0)
    within = start[:, None] + blocks[rows, block].cumsum(1, dtype=np.float64)
    place = np.count_nonzero(within <= bound[:, None], axis=1)
    drawn: Ints = block * BLOCK + place
    lower = np.where(place > 0, within[paths, np.minimum(place, BLOCK) - 1], start)
    share = choices[rows, np.minimum(drawn, choices.shape[1] - 1)]
    left = np.divide(bound - lower, share, out=np.ones(len(rows)), where=(share > 0) & (place < BLOCK))
    for i in np.flatnonzero((place == BLOCK) & sound):  # rounding led past the last that can be drawn
        drawn[i] = np.flatnonzero(choices[rows[i], : drawn[i]])[-1]
    return drawn, np.clip(left, 0.0, np.nextafter(1.0, 0.0)), sound
