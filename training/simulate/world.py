"""The simulated world: kinds of visitors, and the exact probability of every step that they take.

A session is a walk over viewed pages. From the page viewed now, a visitor of kind k moves

    with probability back_k to the page viewed before it,
    with probability last_k to one of the last session's views, each as likely as the others,
    otherwise by a Markov step of the kind.

A move that does not exist (no page before, no last session, a last session's view of the page viewed now) is a Markov
step instead. After a product page a visitor adds to the cart with probability cart_k (1 + growth_k r) and after that
buys with probability purchase_k; the walk then goes on from the product page. The counter r, at most `revisits`, is
the number of views so far in this session whose page was in the last session or was viewed two steps before: a
function of what is seen, so that every probability is an explicit sum although no first-order chain gives it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NONE, CART, PURCHASE = range(3)
"""What follows a view: nothing, a cart, or a cart and a purchase."""


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """K kinds over V pages that can be viewed (outcome pages are not among them).

    `step[k]` has a zero diagonal: nobody views the same page twice in a row. From position `min_views` on, a session
    ends after a view of page x with probability `end[k, x]`, after a purchase with `leave[k]` at any position, and
    after `max_views` views always.
    """

    pages: tuple[str, ...]
    product: Bools  # [V]
    kinds: tuple[str, ...]
    shares: Floats  # [K]
    start: Floats  # [K, V]
    step: Floats  # [K, V, V]
    end: Floats  # [K, V]
    back: Floats  # [K]
    last: Floats  # [K]
    cart: Floats  # [K]
    growth: Floats  # [K]
    purchase: Floats  # [K]
    leave: Floats  # [K]
    min_views: int = 3
    max_views: int = 12
    revisits: int = 3

    def __post_init__(self) -> None:
        """Raises `ValueError` where a row is no distribution or a chance leaves [0, 1]."""
        for name, rows in (("shares", self.shares), ("start", self.start), ("step", self.step)):
            if (rows < 0).any() or np.abs(rows.sum(-1) - 1).max() > 1e-9:
                raise ValueError(f"{name}: not a distribution")
        if np.diagonal(self.step, axis1=1, axis2=2).any():
            raise ValueError("step: a page would follow itself")
        if (self.back + self.last > 1).any() or (self.cart * (1 + self.growth * self.revisits) > 1).any():
            raise ValueError("the chances of returning, or of a cart, exceed one")
        if not 1 <= self.min_views <= self.max_views:
            raise ValueError("max_views must be at least min_views, which is at least 1")

    def moves(self, kind: Ints, previous: Ints, current: Ints, spread: Floats) -> Floats:
        """The next view's distribution, float64 [n, V], given that the session goes on.

        `previous` and `current` are the last two views [n], `previous` -1 where there is none; `spread` [n, V] is the
        share of each page among the last session's views, zero where there was no last session.
        """
        every = np.arange(len(kind))
        last = np.where(spread.any(1), self.last[kind], 0.0)
        back = np.where(previous >= 0, self.back[kind], 0.0)
        markov = 1.0 - back - last * (1.0 - spread[every, current])
        rows: Floats = markov[:, None] * self.step[kind, current] + last[:, None] * spread
        rows[every, current] = 0.0
        rows[every, previous] += back  # where there is none, back is zero
        return rows

    def cart_chance(self, kind: Ints, current: Ints, revisits: Ints) -> Floats:
        """The probability of a cart after viewing `current` with the counter at `revisits`, float64 [n]."""
        chance: Floats = self.product[current] * self.cart[kind] * (1.0 + self.growth[kind] * revisits)
        return chance

    def end_chance(self, kind: Ints, position: int, current: Ints, outcome: Ints) -> Floats:
        """The probability that the session ends after its view number `position` (from 1) and its `outcome` [n]."""
        if position >= self.max_views:
            return np.ones(len(kind))
        usual = self.end[kind, current] if position >= self.min_views else np.zeros(len(kind))
        return np.where(outcome == PURCHASE, self.leave[kind], usual)


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """n sessions, int64 [n, max_views]. `views`: page indices, -1 after the end; `outcomes`: what followed each."""

    views: Ints
    outcomes: Ints

    def __len__(self) -> int:
        return len(self.views)

    @property
    def tokens(self) -> Ints:
        """Pages of each session, carts and purchases included, int64 [n]."""
        pages: Ints = (self.views >= 0).sum(1) + self.outcomes.sum(1)
        return pages

    def take(self, index: Ints) -> Visits:
        return Visits(self.views[index], self.outcomes[index])


def spread_of(views: Ints, pages: int) -> Floats:
    """The share of each page among the views [n, max_views], float64 [n, pages]; zeros for a session without views."""
    counts = np.zeros((len(views), pages + 1))
    np.add.at(counts, (np.arange(len(views))[:, None], views), 1.0)  # -1 falls into the last column
    counts = counts[:, :pages]
    shares: Floats = counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
    return shares


def visit(world: World, generator: np.random.Generator, kind: Ints, last_views: Ints) -> Visits:
    """One next session for each of n visitors of the given kinds [n], whose last sessions were `last_views` [n, T]."""
    n, V = len(kind), len(world.pages)
    spread = spread_of(last_views, V)
    views = np.full((n, world.max_views), -1)
    outcomes = np.zeros((n, world.max_views), np.int64)
    live = np.arange(n)
    current = draw(world.start[kind], generator.random(n))
    previous = np.full(n, -1)
    revisits = np.minimum((spread[live, current] > 0).astype(np.int64), world.revisits)
    for t in range(world.max_views):
        views[live, t] = current
        chance = world.cart_chance(kind[live], current, revisits)
        uniform = generator.random((3, len(live)))
        bought = uniform[1] < world.purchase[kind[live]]
        outcome = np.where(uniform[0] < chance, np.where(bought, PURCHASE, CART), NONE)
        outcomes[live, t] = outcome
        stays = uniform[2] >= world.end_chance(kind[live], t + 1, current, outcome)
        live, previous, current, revisits = live[stays], previous[stays], current[stays], revisits[stays]
        if len(live) == 0:
            break
        rows = world.moves(kind[live], previous, current, spread[live])
        following = draw(rows, generator.random(len(live)))
        again = (spread[live, following] > 0) | (following == previous)
        revisits = np.minimum(revisits + again, world.revisits)
        previous, current = current, following
    return Visits(views, outcomes)


def draw(rows: Floats, uniforms: Floats) -> Ints:
    """One index per row of `rows` [n, V] by inverse CDF."""
    cumulative = np.cumsum(rows, axis=1)
    drawn: Ints = (cumulative <= (uniforms * cumulative[:, -1])[:, None]).sum(1)
    return drawn
