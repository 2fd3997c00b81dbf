import numpy as np
import pytest

from browsing.markov import MarkovMixture
from tests.training.simulate.worlds import LAST, every_session, ids, micro, shop, simulated
from training.simulate.run import Settings, simulate_users
from training.simulate.shops import Preset, build
from training.simulate.truth import bayes_nll, log_likelihoods, outcome_probabilities, posterior
from training.simulate.world import CART, PURCHASE, Visits, spread_of, visit


@pytest.fixture(scope="module")
def sessions() -> Visits:
    return every_session(micro())


@pytest.mark.parametrize("last", LAST)
def test_probabilities_of_all_sessions_sum_to_one(last: str, sessions: Visits) -> None:
    chances = np.exp(log_likelihoods(micro(), sessions, np.tile(LAST[last], (len(sessions), 1))))
    assert chances.sum(0) == pytest.approx([1.0, 1.0], abs=1e-12)


@pytest.mark.parametrize("last", LAST)
@pytest.mark.parametrize("kind", [0, 1])
def test_outcomes_are_those_of_all_sessions_together(last: str, kind: int, sessions: Visits) -> None:
    world = micro()
    chances = np.exp(log_likelihoods(world, sessions, np.tile(LAST[last], (len(sessions), 1))))[:, kind]
    cart = chances[(sessions.outcomes >= CART).any(1)].sum()
    purchase = chances[(sessions.outcomes == PURCHASE).any(1)].sum()
    exact = outcome_probabilities(world, kind, spread_of(np.array([LAST[last]]), 4))
    assert exact[:, 0] == pytest.approx([cart, purchase], abs=1e-12)


@pytest.mark.parametrize("max_views", [1, 2, 3])
def test_outcomes_of_the_shortest_sessions(max_views: int) -> None:
    world = micro(max_views, min_views=1)
    sessions = every_session(world)
    last = np.array(LAST["short"][:max_views])
    chances = np.exp(log_likelihoods(world, sessions, np.tile(last, (len(sessions), 1))))[:, 0]
    exact = outcome_probabilities(world, 0, spread_of(last[None], 4))
    assert chances.sum() == pytest.approx(1.0, abs=1e-12)
    assert exact[0, 0] == pytest.approx(chances[(sessions.outcomes >= CART).any(1)].sum(), abs=1e-12)


def test_sampled_sessions_have_the_frequencies_of_their_probabilities(sessions: Visits) -> None:
    world, n = micro(), 40_000
    last = np.tile(LAST["repeating"], (n, 1))
    drawn = visit(world, np.random.default_rng(0), np.zeros(n, np.int64), last)
    chances = np.exp(log_likelihoods(world, sessions, np.tile(LAST["repeating"], (len(sessions), 1))))[:, 0]
    names = {(*v, *o): i for i, (v, o) in enumerate(zip(sessions.views, sessions.outcomes, strict=True))}
    counted = np.bincount(
        [names[(*v, *o)] for v, o in zip(drawn.views, drawn.outcomes, strict=True)], minlength=len(sessions)
    )
    likely = chances * n > 20
    z = (counted - chances * n)[likely] / np.sqrt(n * chances * (1 - chances))[likely]
    assert likely.sum() > 100
    assert np.abs(z).max() < 4.5
    assert (z**2).mean() == pytest.approx(1.0, abs=0.35)
    assert not counted[chances == 0].any()


@pytest.mark.parametrize("preset", ["tastes", "habits"])
def test_outcomes_equal_monte_carlo_in_the_real_shop(preset: Preset) -> None:
    world = shop(preset)
    n = 8000
    kind = np.full(n, 2)
    first = visit(world, np.random.default_rng(1), kind[:3], np.full((3, world.max_views), -1)).views
    exact = outcome_probabilities(world, 2, spread_of(first, len(world.pages)))
    for user in range(3):
        drawn = visit(world, np.random.default_rng(2 + user), kind, np.tile(first[user], (n, 1)))
        for outcome, chance in zip((CART, PURCHASE), exact[:, user], strict=True):
            error = np.sqrt(chance * (1 - chance) / n)
            assert (drawn.outcomes >= outcome).any(1).mean() == pytest.approx(chance, abs=4 * error)


@pytest.mark.parametrize("preset", ["tastes", "habits"])
def test_the_true_kind_explains_its_sessions_best_and_the_posterior_finds_it(preset: Preset) -> None:
    world, some = simulated(preset, 400)
    before = np.full((400, world.max_views), -1)
    first = some.sessions.take(np.flatnonzero(np.diff(some.owner, prepend=-1)))
    logs = log_likelihoods(world, first, before)
    for k in range(4):
        mean = logs[some.kind == k].mean(0)
        assert mean.argmax() == k
    assert some.posterior.sum(1) == pytest.approx(np.ones(400))
    after_one = posterior(world, logs)[np.arange(400), some.kind].mean()
    after_all = some.posterior[np.arange(400), some.kind].mean()
    assert 0.4 < after_one < after_all - 0.1
    assert after_all > 0.93


@pytest.mark.parametrize("preset", ["tastes", "habits"])
def test_a_single_chain_cannot_predict_as_well_as_the_truth(preset: Preset) -> None:
    world, some = simulated(preset, 2500)
    users, _ = ids(world, some)
    chain = MarkovMixture.fit(users[:2000], len(world.pages) + 6, 1)
    pages = some.target_pages[2000:].sum()
    fitted = -chain.log_likelihoods([[user[-1]] for user in users[2000:]]).sum() / pages
    assert fitted > some.bayes_nll[2000:].sum() / pages + 0.2


def test_memory_is_not_first_order() -> None:
    """Even the chain fitted to one kind alone, on plenty of its own sessions, falls short of the kind's truth."""
    world, some = simulated("habits", 4000)
    users, kind = ids(world, some)
    own = [user for user, k in zip(users, kind, strict=True) if k == 1]
    chain = MarkovMixture.fit(own[:-200], len(world.pages) + 6, 1)
    index = np.flatnonzero(kind == 1)[-200:]
    fitted = -chain.log_likelihoods([[users[i][-1]] for i in index]).sum()
    assert fitted / some.target_pages[index].sum() > some.bayes_nll[index].sum() / some.target_pages[index].sum() + 0.1


def test_bayes_nll_mixes_the_kinds() -> None:
    shares = np.array([[0.25, 0.75], [1.0, 0.0]])
    logs = np.log([[0.1, 0.2], [0.3, 0.9]])
    assert bayes_nll(shares, logs) == pytest.approx([-np.log(0.175), -np.log(0.3)])


def test_outcomes_are_mixed_over_the_posterior() -> None:
    world = build("habits", 2, 20, 0)
    some = simulate_users(world, Settings("habits", 40, 5, kinds=2, pages=20), 0, 40)
    assert some.outcomes is not None
    last = np.flatnonzero(np.diff(some.owner, append=-1)) - 1  # a user's last session but one
    spread = spread_of(some.sessions.views[last], len(world.pages))
    by_kind = np.stack([outcome_probabilities(world, k, spread) for k in range(2)])
    assert some.outcomes == pytest.approx((by_kind * some.posterior.T[:, None]).sum(0), abs=1e-6)
