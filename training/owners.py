"""Whose sample is whose. A user may have many samples, which are alike: what is compared, and counted, is users."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def users_among(owner: Ints) -> int:
    """How many users the samples are of. `owner` [N]: the number of each sample's user."""
    return len(np.unique(owner))


def summed_by_user(values: Floats, owner: Ints) -> Floats:
    """`values` [N, ...] of samples, summed over each user's own: float64 [U, ...], in the order of their first samples.

    `owner` int64 [N]. With one sample per user these are `values` as they are, bit for bit.
    """
    _, first, user = np.unique(owner, return_index=True, return_inverse=True)
    if len(first) == len(values):
        return values
    place = np.argsort(np.argsort(first))
    sums = np.zeros((len(first), *values.shape[1:]))
    np.add.at(sums, place[user], values)
    return sums


def within_one_error(difference: Floats) -> NDArray[np.bool_]:
    """Whether the mean over users is at most one standard error above zero. `difference` [U, ...], U at least 2: what
    each user's samples lose more in nats, summed; the answer is [...].

    Mean and error are in nats per user. Divided by pages per user both would be in nats per page, the ratio of two sums
    that the test loss is, and the answer the same: users count by how many pages they have.
    """
    error = difference.std(0, ddof=1) / np.sqrt(len(difference))
    within: NDArray[np.bool_] = difference.mean(0) <= error
    return within
