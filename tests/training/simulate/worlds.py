"""Small worlds for the tests, and every session that they can bring."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

from training.simulate.run import Population, Settings, simulate_users
from training.simulate.shops import Preset, build
from training.simulate.world import Ints, Visits, World

Session = list[int]


def micro(max_views: int = 4, min_views: int = 2) -> World:
    """Two kinds over four pages, two of them products, with every rate different."""
    generator = np.random.default_rng(7)
    K, V = 2, 4
    step = generator.random((K, V, V)) ** 2
    for k in range(K):
        np.fill_diagonal(step[k], 0.0)
    start = generator.random((K, V))
    return World(
        pages=("/", "/bags/tote", "/bags", "/bags/clutch"),
        product=np.array([False, True, False, True]),
        kinds=("one", "other"),
        shares=np.array([0.3, 0.7]),
        start=start / start.sum(1, keepdims=True),
        step=step / step.sum(-1, keepdims=True),
        end=generator.uniform(0.1, 0.5, (K, V)),
        back=np.array([0.25, 0.1]),
        last=np.array([0.2, 0.35]),
        cart=np.array([0.1, 0.2]),
        growth=np.array([0.9, 0.4]),
        purchase=np.array([0.4, 0.3]),
        leave=np.array([0.6, 0.8]),
        min_views=min_views,
        max_views=max_views,
        revisits=2,
    )


LAST = {
    "none": [-1, -1, -1, -1],
    "short": [2, 3, -1, -1],
    "repeating": [0, 1, 0, 1],
}
"""Last sessions over `micro`'s pages."""


def every_session(world: World) -> Visits:
    """All sessions that the world can bring, whatever their probability."""
    V, T = len(world.pages), world.max_views
    views, outcomes = [], []
    for length in range(1, T + 1):
        for walk in itertools.product(range(V), repeat=length):
            if any(a == b for a, b in itertools.pairwise(walk)):
                continue
            for after in itertools.product(range(3), repeat=length):
                views.append([*walk, *[-1] * (T - length)])
                outcomes.append([*after, *[0] * (T - length)])
    return Visits(np.array(views), np.array(outcomes))


@lru_cache
def shop(preset: Preset, seed: int = 1) -> World:
    return build(preset, 4, 60, seed)


def simulated(preset: Preset, users: int, seed: int = 1) -> tuple[World, Population]:
    """Simulated users without the costly outcome probabilities."""
    world = shop(preset, seed)
    return world, simulate_users(world, Settings(preset, users, seed, outcomes=False), 0, users)


def ids(world: World, some: Population) -> tuple[list[list[Session]], Ints]:
    """Each user's sessions as `[BOS] pages [EOS]`, cart and purchase being pages 4 and 5; and their kinds."""
    users: list[list[Session]] = [[] for _ in some.kind]
    for user, views, outcomes in zip(some.owner, some.sessions.views, some.sessions.outcomes, strict=True):
        session = [1]
        for page, outcome in zip(views, outcomes, strict=True):
            if page >= 0:
                session += [6 + int(page), *(4, 5)[: int(outcome)]]
        users[user].append([*session, 2])
    return users, some.kind
