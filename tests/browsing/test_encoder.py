from __future__ import annotations

import numpy as np
import pytest

from browsing.encoder import pool, rounded


def test_newer_sessions_weigh_more() -> None:
    vectors = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(pool(vectors, 0.5), np.array([1, 2, 4]) / 7, rtol=1e-6)
    np.testing.assert_allclose(pool(vectors, 1.0), np.full(3, 1 / 3), rtol=1e-6)
    np.testing.assert_array_equal(pool(vectors[:1], 0.5), vectors[0])
    with pytest.raises(ValueError, match="empty history"):
        pool(vectors[:0], 0.5)


def test_rounding_is_to_float16_and_done_once() -> None:
    vectors = np.array([[0.1, 1 / 3]], np.float32)
    once = rounded(vectors)
    assert once.dtype == np.float32
    np.testing.assert_array_equal(once, vectors.astype(np.float16))
    np.testing.assert_array_equal(rounded(once), once)
