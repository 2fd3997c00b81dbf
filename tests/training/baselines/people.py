"""Visitors for the baselines' tests: simulated ones, and hand-written ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from browsing.vocabulary import Vocabulary
from training.dataset import Sample
from training.simulate.run import Settings, simulate_users
from training.simulate.shops import build
from training.simulate.world import CART, PURCHASE

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
OUTCOMES = {"cart": ("/cart",), "purchase": ("/bought",)}
WORLD = build("tastes", 2, 20, 0)
VOCABULARY = Vocabulary(["/cart", "/bought", *WORLD.pages])


def simulated(users: int, seed: int) -> list[Sample]:
    """Two kinds of visitors with their favourite categories, over 18 pages and the outcomes' two."""
    settings = Settings("tastes", users, seed, kinds=2, pages=20, outcomes=False)
    some = simulate_users(WORLD, settings, 0, users)
    sessions: list[list[tuple[str, ...]]] = [[] for _ in range(users)]
    for owner, views, outcomes in zip(some.owner, some.sessions.views, some.sessions.outcomes, strict=True):
        pages: list[str] = []
        for view, outcome in zip(views[views >= 0], outcomes, strict=False):
            pages.append(WORLD.pages[view])
            pages += ["/cart"] * int(outcome >= CART) + ["/bought"] * int(outcome == PURCHASE)
        sessions[owner].append(tuple(pages))
    generator = np.random.default_rng(seed)
    return [
        visitor(f"{seed}-{u}", own[:-1], own[-1], MONDAY + timedelta(hours=float(generator.integers(200))))
        for u, own in enumerate(sessions)
    ]


def visitor(
    name: str, history: Sequence[Sequence[str]], following: Sequence[str], first: datetime = MONDAY, days: float = 1
) -> Sample:
    """Sessions every `days` days from `first` on."""
    times = tuple(first + timedelta(days=days * i) for i in range(len(history) + 1))
    return Sample(name, tuple(map(tuple, history)), times[:-1], tuple(following), times[-1])
