"""The random numbers of a request: uniform and independent along a path, stratified over the paths of a half."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from browsing.engine import GenerateRequest
from browsing.engines.sampling import noise
from browsing.vocabulary import BOS

REQUEST = GenerateRequest(0, (BOS,), 16, 5, seed=3)


@pytest.mark.parametrize("samples", [1, 2, 7, 16, 64])
def test_each_half_has_one_number_in_each_stratum(samples: int) -> None:
    numbers = noise(replace(REQUEST, samples=samples))
    assert numbers.shape == (samples, 5)
    assert ((numbers >= 0) & (numbers < 1)).all()
    for half in (numbers[::2], numbers[1::2]):
        strata = np.sort((half * len(half)).astype(int), axis=0)
        np.testing.assert_array_equal(strata, np.tile(np.arange(len(half))[:, None], (1, 5)))


def test_equal_seeds_give_equal_numbers() -> None:
    np.testing.assert_array_equal(noise(REQUEST), noise(REQUEST))
    assert not np.isin(noise(REQUEST), noise(replace(REQUEST, seed=4))).any()


def test_a_paths_numbers_are_uniform_and_independent_and_so_are_the_halves() -> None:
    many = np.array([noise(replace(REQUEST, seed=seed)) for seed in range(2_000)])
    for path in (0, 7, 15):
        assert kstest(many[:, path].ravel(), "uniform").pvalue > 1e-3
    limit = 4 / np.sqrt(len(many))  # of a correlation
    for path, step, other, later in ((0, 0, 0, 1), (3, 1, 3, 4), (0, 0, 2, 1), (0, 2, 1, 2), (4, 3, 7, 3)):
        assert abs(np.corrcoef(many[:, path, step], many[:, other, later])[0, 1]) < limit
    # Within a half they keep apart: that is what makes a mean over it steadier.
    assert np.corrcoef(many[:, 0, 2], many[:, 2, 2])[0, 1] < -limit
    assert many.mean(axis=1).var() < 1 / 12 / 16 / 20
