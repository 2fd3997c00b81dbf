"""One simulation from its settings to its files, block by block: memory does not grow with the number of users."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from training.simulate import truth
from training.simulate.log import Block, LogFormat, events, user_ids, writer
from training.simulate.shops import Preset, population
from training.simulate.world import CART, PURCHASE, Floats, Ints, Visits, World, spread_of, visit

BLOCK = 4000
"""Users simulated together; a block's random numbers depend on the seed and its place alone."""


@dataclass(frozen=True, slots=True)
class Settings:
    preset: Preset
    users: int
    seed: int
    kinds: int = 4
    pages: int = 60
    min_sessions: int = 3
    max_sessions: int = 8
    outcomes: bool = True
    """Whether the exact outcome probabilities are computed, which takes most of the time."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What came out. `carts`, `purchases`: sessions that hold one; `target_pages`: of the last sessions, ends counted;
    `bayes_nll`: nats, summed over users."""

    users: int = 0
    sessions: int = 0
    events: int = 0
    carts: int = 0
    purchases: int = 0
    target_pages: int = 0
    bayes_nll: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Some simulated users and what is true of them. The last of a user's sessions is the one to predict.

    `kind`: int64 [users]; `sessions`: in the order of `owner`, int64 [n], then of time; `last`: whether a session is
    its user's last, bool [n]; `posterior`: p(kind | history), float64 [users, K]; `bayes_nll`: float64 [users], nats;
    `target_pages`: its pages, the end counted; `outcomes`: P(cart), P(purchase) in it given the history and that it
    takes place, float64 [2, users], or None.
    """

    kind: Ints
    owner: Ints
    sessions: Visits
    posterior: Floats
    bayes_nll: Floats
    target_pages: Ints
    outcomes: Floats | None


def simulate_users(
    world: World, settings: Settings, block: int, count: int, advance: Callable[[float], None] = lambda n: None
) -> Population:
    """The users of one block. `advance(n)` is told of users as they are done."""
    generator = np.random.default_rng((settings.seed, 1, block))
    kind = population(world, generator, count)
    number = generator.integers(settings.min_sessions, settings.max_sessions + 1, count)
    last_views = np.full((count, world.max_views), -1)
    before = last_views.copy()  # of each user's last session but one
    history, target = np.zeros((count, len(world.kinds))), np.zeros((count, len(world.kinds)))
    target_pages = np.zeros(count, np.int64)
    owners, views, outcomes = [], [], []
    for j in range(settings.max_sessions):
        here = np.flatnonzero(number > j)
        visits = visit(world, generator, kind[here], last_views[here])
        logs = truth.log_likelihoods(world, visits, last_views[here])
        final = number[here] == j + 1
        ending = here[final]
        history[here[~final]] += logs[~final]
        target[ending] = logs[final]
        target_pages[ending] = visits.tokens[final] + 1
        before[ending] = last_views[ending]
        last_views[here] = visits.views
        owners.append(here)
        views.append(visits.views)
        outcomes.append(visits.outcomes)
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    sessions = Visits(np.concatenate(views)[order], np.concatenate(outcomes)[order])
    posterior = truth.posterior(world, history)
    chances = _outcomes(world, posterior, before, advance) if settings.outcomes else None
    if chances is None:
        advance(count)
    nll = truth.bayes_nll(posterior, target)
    return Population(kind, owner[order], sessions, posterior, nll, target_pages, chances)


def _outcomes(world: World, posterior: Floats, last_views: Ints, advance: Callable[[float], None]) -> Floats:
    spread = spread_of(last_views, len(world.pages))
    chances = np.zeros((2, len(posterior)))
    size = 25 * truth.BATCH
    pieces = [
        (k, some[i : i + size])
        for k in range(len(world.kinds))
        for some in [np.flatnonzero(posterior[:, k] > truth.NEGLIGIBLE)]
        for i in range(0, len(some), size)
    ]
    work = sum(len(users) for _, users in pieces)

    def compute(piece: tuple[int, Ints]) -> Floats:
        return truth.outcome_probabilities(world, piece[0], spread[piece[1]])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (k, users), result in zip(pieces, pool.map(compute, pieces), strict=True):
            chances[:, users] += posterior[users, k] * result
            advance(len(posterior) * len(users) / work)
    return chances


def run(
    settings: Settings, world: World, directory: Path, log_format: LogFormat, advance: Callable[[float], None]
) -> Counts:
    """Write `events.<format>` and `truth.parquet` into `directory`."""
    counts = Counts()
    with (
        writer(directory / f"events.{log_format}", log_format) as log,
        writer(directory / "truth.parquet", "parquet") as table,
    ):
        for block, first in enumerate(range(0, settings.users, BLOCK)):
            count = min(BLOCK, settings.users - first)
            some = simulate_users(world, settings, block, count, advance)
            ids = user_ids(first, count)
            rows = events(
                Block(ids, some.owner, some.sessions),
                world.pages,
                np.random.default_rng((settings.seed, 2, block)),
            )
            log(rows)
            table(_truth(ids, some, world))
            counts += Counts(
                users=count,
                sessions=len(some.sessions),
                events=len(rows),
                carts=int((some.sessions.outcomes >= CART).any(1).sum()),
                purchases=int((some.sessions.outcomes == PURCHASE).any(1).sum()),
                target_pages=int(some.target_pages.sum()),
                bayes_nll=float(some.bayes_nll.sum()),
            )
    return counts


def _truth(ids: list[str], some: Population, world: World) -> pl.DataFrame:
    columns = {
        "user_id": pl.Series(ids),
        "kind": pl.Series(some.kind),
        "kind_name": pl.Series(world.kinds).gather(some.kind),
        "bayes_nll": pl.Series(some.bayes_nll),
        "next_pages": pl.Series(some.target_pages),
        "posterior": pl.Series(some.posterior.tolist(), dtype=pl.List(pl.Float64)),
    }
    if some.outcomes is not None:
        columns["cart_probability"] = pl.Series(some.outcomes[0])
        columns["purchase_probability"] = pl.Series(some.outcomes[1])
    return pl.DataFrame(columns)
