"""Thresholds: the best F1 by trying them all, and none where there is too little to choose by."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from training.evaluation.metrics.decisions import MIN_POSITIVES, best_threshold, choose_thresholds
from training.evaluation.metrics.probabilities import Probabilities

users = st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1).filter(lambda u: any(h for _, h in u))


@given(users)
def test_the_best_of_all_thresholds(users: list[tuple[int, bool]]) -> None:
    scores, happened = np.array([p / 10 for p, _ in users]), np.array([h for _, h in users])
    tried = {t: f1_score(happened, scores >= t) for t in np.unique(scores)}
    chosen = best_threshold(scores, happened)
    assert tried[chosen] == max(tried.values())
    assert all(tried[t] < tried[chosen] for t in tried if t > chosen)


def test_few_positives_choose_nothing_and_either_is_the_higher_of_both() -> None:
    n = 100
    cart = np.linspace(0.0, 0.99, n)
    purchase = np.full(n, 0.3)
    happened = {
        "cart": cart >= 0.7,
        "purchase": np.arange(n) < MIN_POSITIVES - 1,
        "cart_or_purchase": cart >= 0.6,
        "subscription": np.ones(n, bool),  # has no probability
    }
    own = choose_thresholds(Probabilities({"cart": cart, "purchase": purchase}, {"cart": cart}), happened)
    assert list(own) == ["cart", "purchase", "cart_or_purchase"]
    assert (own["cart"].value, own["cart"].users, own["cart"].positives) == (cart[cart >= 0.7].min(), n, 30)
    assert own["cart"].kind == "calibrated"
    assert (own["purchase"].value, own["purchase"].positives) == (None, MIN_POSITIVES - 1)
    assert own["cart_or_purchase"].value == cart[cart >= 0.6].min()
    assert own["cart_or_purchase"].kind == "raw"
