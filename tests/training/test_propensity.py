"""Fitting what histories say about outcomes, on visitors whose habit is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from training.dataset import Sample
from training.propensity import fit_propensity

OUTCOMES = {"cart": ("/cart",), "purchase": ("/purchase",)}
START = datetime(2026, 1, 1, tzinfo=UTC)


def visitors(count: int, seed: int = 0) -> list[Sample]:
    """Half put something into the cart in 8 of 10 sessions, the others in 1 of 10; nobody buys."""
    generator = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        rate = (0.1, 0.8)[i % 2]
        sessions = [("/", "/cart") if generator.random() < rate else ("/", "/bags") for _ in range(9)]
        times = [START + timedelta(days=day) for day in range(9)]
        samples.append(Sample(f"u{i}", tuple(sessions[:-1]), tuple(times[:-1]), sessions[-1], times[-1]))
    return samples


def test_the_habit_is_learnt() -> None:
    fitted = fit_propensity(visitors(600), OUTCOMES, seed=0)
    assert fitted is not None
    assert set(fitted.models) == {"cart"}, "an outcome that nobody had has no model"
    held = visitors(400, seed=1)
    logits = np.array([fitted.logits(sample.history)["cart"] for sample in held])
    happened = np.array(["/cart" in sample.next_session for sample in held])
    p = 1 / (1 + np.exp(-logits))
    assert abs(p[1::2].mean() - 0.8) < 0.05
    assert abs(p[::2].mean() - 0.1) < 0.05
    loss = -np.where(happened, np.log(p), np.log1p(-p)).mean()
    truth = np.where(np.arange(400) % 2 == 1, 0.8, 0.1)
    best = -np.where(happened, np.log(truth), np.log1p(-truth)).mean()
    # A line in the counts does not level off at 0.1 and 0.8 as the truth does; the rate alone would cost 0.69 nats.
    assert best < loss < best + 0.1


def test_it_is_a_function_of_its_arguments() -> None:
    assert fit_propensity(visitors(200), OUTCOMES, seed=0) == fit_propensity(visitors(200), OUTCOMES, seed=0)


def test_too_few_users_or_outcomes() -> None:
    assert fit_propensity(visitors(60), OUTCOMES, seed=0) is None
    assert fit_propensity(visitors(300), {"purchase": ("/purchase",)}, seed=0) is None
    assert fit_propensity([], OUTCOMES, seed=0) is None
