"""The right answers: exact likelihoods, posteriors and outcome probabilities of a simulated world."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from training.simulate.world import Floats, Ints, Visits, World, spread_of

NEGLIGIBLE = 1e-7
"""A kind with a smaller posterior probability is left out of the outcome probabilities; their error is at most that."""
BATCH = 4
"""Visitors per sweep of the dynamic programme: its tables stay in the processor's cache."""


def log_likelihoods(world: World, visits: Visits, last_views: Ints) -> Floats:
    """log p(session, its end included | kind, last session), float64 [n, K], in nats."""
    n, V, K = len(visits), len(world.pages), len(world.kinds)
    spread = spread_of(last_views, V)
    every = np.arange(n)
    result = np.empty((n, K))
    for k in range(K):
        kind = np.full(n, k)
        current, previous = visits.views[:, 0], np.full(n, -1)
        revisits = np.minimum((spread[every, current] > 0).astype(np.int64), world.revisits)
        chance = world.start[kind, current]
        logs = np.zeros(n)
        going = np.ones(n, bool)
        for t in range(world.max_views):
            outcome = visits.outcomes[:, t]
            cart = world.cart_chance(kind, current, revisits)
            bought = world.purchase[kind]
            chance = chance * np.choose(outcome, [1.0 - cart, cart * (1.0 - bought), cart * bought])
            end = world.end_chance(kind, t + 1, current, outcome)
            following = visits.views[:, t + 1] if t + 1 < world.max_views else np.full(n, -1)
            stays = following >= 0
            chance = chance * np.where(stays, 1.0 - end, end)
            with np.errstate(divide="ignore"):
                logs += np.where(going, np.log(chance), 0.0)
            going = going & stays
            if not going.any():
                break
            following = np.where(stays, following, 0)
            chance = world.moves(kind, previous, current, spread)[every, following]
            again = (spread[every, following] > 0) | (following == previous)
            revisits = np.minimum(revisits + again, world.revisits)
            previous, current = current, following
        result[:, k] = logs
    return result


def posterior(world: World, log_likelihood: Floats) -> Floats:
    """p(kind | history), float64 [n, K], from the summed log-likelihoods [n, K] of each visitor's history."""
    joint = log_likelihood + np.log(world.shares)
    shares: Floats = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    return shares


def bayes_nll(shares: Floats, log_likelihood: Floats) -> Floats:
    """-log sum_k p(k | history) p(next session | history, k), float64 [n], in nats."""
    with np.errstate(divide="ignore"):
        nll: Floats = -logsumexp(np.log(shares) + log_likelihood, axis=1)
    return nll


def outcome_probabilities(world: World, kind: int, spread: Floats) -> Floats:
    """P(cart) and P(purchase) in the next session of visitors of one kind, float64 [2, n].

    `spread` [n, V] is the last session's (see `World.moves`). Exact, by dynamic programming backwards over positions:
    the state is (page before, page now, counter), and the value the probability that the outcome does not happen from
    here on. Costs max_views (revisits + 1) V^2 per visitor.
    """
    batches = [_survival(world, kind, spread[i : i + BATCH]) for i in range(0, len(spread), BATCH)]
    return 1.0 - np.concatenate(batches, axis=1) if batches else np.zeros((2, 0))


def _survival(world: World, kind: int, spread: Floats) -> Floats:
    """P(the outcome does not happen), float64 [2, n], by the recursion over positions t, with c the page now, p the one
    before and r the counter, for W_t(p, c, r) = P(not from this view on):

        W_t(p, c, r) = w(c, r) (e_t(c) + (1 - e_t(c)) sum_y move(y | p, c) W_{t+1}(c, y, r + [y seen last or y = p]))

    where w is the chance that this view brings no outcome. Only two terms of the sum know p: the move back to p, and
    a Markov step that happens to lead to p.
    """
    V, R = len(world.pages), world.revisits
    last = np.where(spread.any(1), world.last[kind], 0.0)[:, None]
    back = world.back[kind]
    markov = 1.0 - back - last * (1.0 - spread)  # [n, c]
    to_last = last * spread
    seen = (spread > 0)[:, None, :]
    counters, pages = np.divmod(np.arange((R + 1) * V), V)
    cart = world.cart_chance(np.full(len(pages), kind), pages, counters).reshape(R + 1, V)
    without = np.stack([1.0 - cart, 1.0 - cart * world.purchase[kind]])[:, :, None, :]  # [outcome, r, 1, c]

    step = markov[:, :, None] * world.step[kind]
    layouts = [(step, step + back), (_transposed(step), _transposed(step + back))]
    value = np.empty((2, R + 1, *step.shape))  # [outcome, r, n, p, c]
    value[:] = without[:, :, :, None, :]
    earlier, scratch = np.empty_like(value), np.empty_like(value[:, 0])  # large arrays are costly to allocate
    for position in range(world.max_views - 1, 0, -1):
        # The new table is indexed [c, p] where the old one was [c, y]: the axes change roles, the numbers stay put.
        step, ahead = layouts[(world.max_views - 1 - position) % 2]
        end = world.end[kind] if position >= world.min_views else np.zeros(V)
        ends, goes = without * end, without * (1.0 - end)
        for r in range(R + 1):
            same, more = value[:, r], value[:, min(r + 1, R)]
            markov_part = scratch
            np.copyto(markov_part, same)
            np.copyto(markov_part, more, where=seen)
            markov_part *= step
            itself = np.diagonal(more, axis1=-2, axis2=-1)
            to_last_part = (more @ to_last[:, :, None])[..., 0] - to_last * itself
            total = markov_part.sum(-1)
            if position == 1:
                first = earlier[:, r, :, :, 0]
                first[:] = total * (1.0 + back / markov) + to_last_part
                first *= goes[:, r]
                first += ends[:, r]
                continue
            new = earlier[:, r]
            np.multiply(ahead, more, out=new)
            new -= markov_part
            new += (total + to_last_part)[..., None]
            new *= goes[:, r][..., None]
            new += ends[:, r][..., None]
        value, earlier, scratch = (table.swapaxes(-1, -2) for table in (earlier, value, scratch))
    counter = np.minimum(seen[:, 0].astype(np.int64), R)
    first = value[:, counter, np.arange(len(spread))[:, None], 0, np.arange(V)]  # [outcome, n, c]
    survival: Floats = first @ world.start[kind]
    return survival


def _transposed(table: Floats) -> Floats:
    """The same numbers with the last two axes laid out in the other order in memory."""
    return np.ascontiguousarray(table.swapaxes(-1, -2)).swapaxes(-1, -2)
