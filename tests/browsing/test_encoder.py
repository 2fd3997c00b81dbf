from __future__ import annotations

import numpy as np
import pytest

from browsing.encoder import WEIGHTS_SHA256, SbertEncoder, pool, read


def test_pages_read_as_words() -> None:
    assert read(["/bags/tote-mini", "/", "/cart"]) == "bags tote mini, home, cart"
    assert read(["[UNK]", "/Obi-Wan_Kenobi"]) == "Obi Wan Kenobi"


def test_newer_sessions_weigh_more() -> None:
    vectors = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(pool(vectors, decay=0.5), np.array([1, 2, 4]) / 7, rtol=1e-6)
    np.testing.assert_array_equal(pool(vectors[:1]), vectors[0])
    with pytest.raises(ValueError, match="empty history"):
        pool(vectors[:0])


def test_sbert_from_the_pinned_package() -> None:
    encoder = SbertEncoder()
    assert encoder.dimension == 384
    assert encoder.weights_sha256 == WEIGHTS_SHA256
    sessions = [["/bags/tote-mini"], ["/handbags/small-tote", "/bags"], ["/garden/lawn-mower"]] * 20
    vectors = encoder.encode(sessions)
    assert vectors.shape == (60, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2, "bags are nearer to bags than to lawn mowers"
    np.testing.assert_allclose(encoder.encode(sessions[:1])[0], vectors[0], atol=1e-5)
    assert encoder.encode([]).shape == (0, 384)
