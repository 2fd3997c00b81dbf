"""The mixture of Markov chains against the simulator's truth: does it find the kinds of visitors?"""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from browsing.markov import MarkovMixture
from tests.training.simulate.worlds import ids, simulated
from training.simulate.shops import Preset


@pytest.mark.parametrize(("preset", "all_sessions", "histories"), [("tastes", 0.9, 0.87), ("habits", 0.82, 0.8)])
def test_em_recovers_the_kinds(preset: Preset, all_sessions: float, histories: float) -> None:
    world, some = simulated(preset, 3000)
    users, kind = ids(world, some)
    told: list[float] = []
    mixture = MarkovMixture.fit(
        users[:2400], len(world.pages) + 6, 4, restarts=1, report=lambda _, likelihood: told.append(likelihood)
    )
    assert mixture.components == 4
    assert all(later >= earlier for earlier, later in pairwise(told))
    trained = adjusted_rand_score(kind[:2400], mixture.responsibilities(users[:2400]).argmax(1))
    unseen = adjusted_rand_score(kind[2400:], mixture.responsibilities([user[:-1] for user in users[2400:]]).argmax(1))
    assert trained > all_sessions
    assert unseen > histories
    single = MarkovMixture.fit(users[:2400], len(world.pages) + 6, 1)
    assert _loss(mixture, users[2400:]) < _loss(single, users[2400:]) - 0.05
    assert _loss(mixture, users[2400:]) > some.bayes_nll[2400:].sum() / some.target_pages[2400:].sum()


def _loss(mixture: MarkovMixture, users: list[list[list[int]]]) -> float:
    """Nats per page of the last sessions given the ones before."""
    whole, history = (
        np.logaddexp.reduce(mixture.log_likelihoods(part) + np.log(mixture.weights), axis=1)
        for part in (users, [user[:-1] for user in users])
    )
    return float((history - whole).sum() / sum(len(user[-1]) - 1 for user in users))
