from __future__ import annotations

import numpy as np

from browsing.encoders.sbert import WEIGHTS_SHA256, SbertEncoder


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
