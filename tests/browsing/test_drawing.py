"""Drawing for many paths: against the obvious way, and over a grid of numbers that stands for the uniform law."""

from __future__ import annotations

import numpy as np
import pytest

from browsing.engines.drawing import draw
from browsing.engines.llamas import BLOCK
from browsing.engines.sampling import pick


@pytest.fixture(scope="module")
def choices() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Distributions over three blocks, with ids that cannot be drawn among them."""
    generator = np.random.default_rng(0)
    own = generator.dirichlet(np.full(3 * BLOCK, 0.3), 4).astype(np.float32)
    own[generator.random(own.shape) < 0.3] = 0.0
    own[2, BLOCK:] = 0.0
    own[3, : 2 * BLOCK] = 0.0
    return own


def test_without_anything_forbidden_it_is_pick(choices: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    generator = np.random.default_rng(1)
    rows = generator.integers(0, 4, 500)
    uniforms = generator.random(500)
    nobody = np.full((500, 1), choices.shape[1] - 1)
    drawn, sound = draw(np.pad(choices, ((0, 0), (0, BLOCK))), rows, uniforms, np.zeros(500, bool), nobody + BLOCK)
    assert sound.all()
    assert drawn.tolist() == [pick(choices[r].astype(float), u) for r, u in zip(rows, uniforms, strict=True)]


@pytest.mark.parametrize("forbidden", [(3,), (3, 70, 71), tuple(range(0, 150, 2))])
def test_what_is_allowed_keeps_its_renormalised_probability(
    choices: np.ndarray[tuple[int, int], np.dtype[np.float32]], forbidden: tuple[int, ...]
) -> None:
    """A grid of n numbers gives each id n times its probability, to within the ends of its pieces: its own, and one in
    each forbidden id's share."""
    n = 40_000
    uniforms = (np.arange(n) + 0.5) / n
    for row in range(3):
        left = choices[row].astype(float)
        left[list(forbidden)] = 0.0
        drawn, sound = draw(choices, np.full(n, row), uniforms, np.zeros(n, bool), np.tile(np.array(forbidden), (n, 1)))
        assert sound.all()
        counts = np.bincount(drawn, minlength=len(left))
        assert (counts[left == 0] == 0).all()
        assert np.abs(counts - n * left / left.sum()).max() <= 2 * (1 + len(forbidden))


def test_equal_numbers_stay_together_until_what_they_draw_is_forbidden(
    choices: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    likeliest = int(choices[0].argmax())
    uniforms = np.random.default_rng(2).random(300)
    one, other = (
        draw(choices, np.zeros(300, int), uniforms, np.zeros(300, bool), np.full((300, 1), ids))[0]
        for ids in (int(np.flatnonzero(choices[0] == 0)[0]), likeliest)
    )
    assert ((one == other) == (one != likeliest)).all()
    assert (one == likeliest).any()


def test_greedy_takes_the_likeliest_that_is_allowed(
    choices: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    first, second = np.argsort(-choices[1])[:2].tolist()
    drawn, _ = draw(choices, np.array([1, 1]), np.zeros(2), np.ones(2, bool), np.array([[second], [first]]))
    assert drawn.tolist() == [first, second]


def test_it_never_falls_off_the_end(choices: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    """Sums are rounded, so that the last number below 1 may lie beyond every id: then it is the last one possible."""
    rows = np.arange(4)
    last = [int(np.flatnonzero(row)[-1]) for row in choices]
    for u in (np.nextafter(1.0, 0.0), 1.0):
        drawn, sound = draw(choices, rows, np.full(4, u), np.zeros(4, bool), np.zeros((4, 0), int))
        assert sound.all()
        assert drawn.tolist() == last


def test_nothing_to_draw_is_told() -> None:
    own = np.zeros((3, BLOCK), np.float32)
    own[1, 5], own[2, 5] = 1.0, np.nan
    _, sound = draw(own, np.arange(3), np.zeros(3), np.zeros(3, bool), np.array([[0], [5], [0]]))
    assert not sound.any()
    assert draw(own, np.array([1]), np.zeros(1), np.zeros(1, bool), np.array([[0]]))[1].all()
