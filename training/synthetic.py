"""Synthetic browsing whose page identities are drawn afresh for every visitor.

Nothing can be learnt about a page, so a predictor that is trained on it learns what is left: to copy from the history,
to read a visitor's habits in context, and how sessions begin and end. Every visitor has a few pages of their own, a
Markov chain over them, and habits: going back, returning to pages of the last session, repeating it as a whole, and
looking at something new.
"""

from __future__ import annotations

import numpy as np

from browsing.vocabulary import BOS, EOS, SPECIALS
from training.batches import Example

FIRST = len(SPECIALS)
PAGES = (4, 25)
SESSIONS = (3, 10)
LENGTH = (3, 16)
"""Ranges [low, high) of a visitor's own pages, sessions, and views at most in a session."""


def visitors(vocabulary_size: int, users: int, seed: int, context: int) -> list[Example]:
    """`users` synthetic visitors, each one example of at most `context` tokens; the last session is the next one.

    Raises `ValueError` for a vocabulary of fewer than two pages.
    """
    if vocabulary_size - FIRST < 2:
        raise ValueError("synthetic browsing needs at least two pages")
    return [_visitor(np.random.default_rng((seed, user)), vocabulary_size, context) for user in range(users)]


class _Habits:
    """One visitor: pages, a chain over them, and how often they do what."""

    def __init__(self, generator: np.random.Generator, vocabulary_size: int) -> None:
        count = min(int(generator.integers(*PAGES)), vocabulary_size - FIRST)
        self.pages = FIRST + generator.choice(vocabulary_size - FIRST, count, replace=False)
        liked = generator.dirichlet(np.full(count, 0.5))
        rows = generator.dirichlet(np.full(count, generator.choice([0.05, 0.15, 0.5])), count)
        self.first = np.cumsum(0.8 * generator.dirichlet(np.full(count, 0.2)) + 0.2 * liked)
        step = 0.7 * rows + 0.3 * liked
        np.fill_diagonal(step, 0.0)  # hardly anybody opens the page that they are on
        self.step = np.cumsum(step, axis=1)
        self.back = generator.beta(1, 6)
        self.last = generator.beta(1, 4)
        self.again = generator.beta(1, 5)
        self.new = generator.beta(1, 12)
        self.end = generator.uniform(0.08, 0.5)
        self.longest = int(generator.integers(*LENGTH))

    def session(self, generator: np.random.Generator, last: list[int]) -> list[int]:
        """One session as places among the visitor's pages; -1 is a page that is none of them."""
        if last and generator.random() < self.again:
            return list(last)
        uniform = generator.random((self.longest, 3))
        here, before = _place(self.first, generator.random()), -1
        views: list[int] = []
        for leave, move, look in uniform:
            views.append(-1 if look < self.new else here)
            if leave < self.end:
                break
            if move < self.back and before >= 0:
                here, before = before, here
            elif move < self.back + self.last and last:
                returned = last[int(generator.integers(len(last)))]
                here, before = (returned if returned >= 0 else here), here
            else:
                here, before = _place(self.step[here], generator.random()), here
        return views


def _place(cumulative: np.ndarray[tuple[int], np.dtype[np.float64]], uniform: float) -> int:
    return min(int(np.searchsorted(cumulative, uniform * cumulative[-1])), len(cumulative) - 1)


def _visitor(generator: np.random.Generator, vocabulary_size: int, context: int) -> Example:
    habits = _Habits(generator, vocabulary_size)
    ids: list[int] = []
    target = 1
    last: list[int] = []
    for _ in range(int(generator.integers(*SESSIONS))):
        last = habits.session(generator, last)
        pages = [
            int(habits.pages[view]) if view >= 0 else int(generator.integers(FIRST, vocabulary_size)) for view in last
        ]
        if ids and len(ids) + len(pages) + 2 > context:
            break
        target = len(ids) + 1
        ids += [BOS, *pages, EOS]
    return Example(tuple(ids[:context]), target)
