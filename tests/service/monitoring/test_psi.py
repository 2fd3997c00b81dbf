"""The index by hand, and what chance makes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.monitoring.psi import compare, noise, psi, smoothed


def test_the_index_by_hand() -> None:
    # (0.75 - 0.5) ln 1.5 + (0.25 - 0.5) ln 0.5 = 0.25 (0.405465 + 0.693147)
    assert psi((0.5, 0.5), (0.75, 0.25)) == pytest.approx(0.274653, abs=1e-6)
    assert psi((0.2, 0.3, 0.5), (0.3, 0.3, 0.4)) == pytest.approx(0.1 * math.log(1.5) - 0.1 * math.log(0.8))
    assert psi((0.2, 0.8), (0.2, 0.8)) == 0


def test_it_does_not_matter_which_came_first() -> None:
    one, other = (0.1, 0.2, 0.7), (0.3, 0.3, 0.4)
    assert psi(one, other) == pytest.approx(psi(other, one))


def test_a_bin_of_one_side_alone() -> None:
    assert psi((0.0, 1.0), (0.1, 0.9)) == math.inf == psi((0.1, 0.9), (0.0, 1.0))
    assert psi((0.0, 1.0), (0.0, 1.0)) == 0


def test_half_an_observation_more_per_bin() -> None:
    assert smoothed((1.0, 0.0), 9) == pytest.approx([0.95, 0.05])
    assert sum(smoothed((0.2, 0.3, 0.5), 7.3)) == pytest.approx(1)


def test_the_noise_by_hand() -> None:
    assert noise(5, 100, 400) == pytest.approx(4 * (0.01 + 0.0025))
    assert noise(1, 10, 10) == 0


def test_a_bin_that_both_lack_counts_for_nothing() -> None:
    plain, wide = compare((0.4, 0.6), 50, (0.7, 0.3), 20), compare((0.4, 0, 0.6, 0), 50, (0.7, 0, 0.3, 0), 20)
    assert plain == wide
    assert plain.noise == pytest.approx(1 / 50 + 1 / 20)
    assert plain.psi == pytest.approx(psi(smoothed((0.4, 0.6), 50), smoothed((0.7, 0.3), 20)))


@pytest.mark.parametrize(("users", "requests"), [(2_000, 300), (400, 3_000)])
def test_two_samples_of_one_distribution_have_the_noise_on_average(users: int, requests: int) -> None:
    generator = np.random.default_rng(0)
    truth = np.arange(1, 11) / 55
    shifts = [
        compare(
            (generator.multinomial(users, truth) / users).tolist(),
            users,
            (generator.multinomial(requests, truth) / requests).tolist(),
            requests,
        )
        for _ in range(400)
    ]
    mean = float(np.mean([shift.psi for shift in shifts]))
    assert mean == pytest.approx(shifts[0].noise, rel=0.1)


def test_hardly_ever_a_false_alarm() -> None:
    """The alert's rule, index minus noise above 0.25, at the fewest requests that an index is given for."""
    generator = np.random.default_rng(1)
    for bins in (2, 5, 22):
        truth = generator.dirichlet(np.full(bins, 3.0))
        excess = []
        for _ in range(500):
            now = generator.multinomial(100, truth) / 100
            shift = compare(truth.tolist(), 5_000, now.tolist(), 100)
            excess.append(shift.psi - shift.noise)
        assert np.mean(np.array(excess) > 0.25) <= 0.002
        assert np.quantile(excess, 0.95) < 0.15
