from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from browsing.encoder import rounded
from browsing.encoders.joined import JoinedEncoder
from browsing.encoders.predictor import PredictorEncoder
from tests import tiny
from tests.tiny import TinyEncoder

SESSIONS = [["/", "/bags"], ["/cart"], ["/shoes", "/unheard-of"]]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> PredictorEncoder:
    return PredictorEncoder(tiny.predictor(tmp_path_factory.mktemp("joined"), tiny.vocabulary()))


def test_the_parts_stand_side_by_side_with_equal_weight(predictor: PredictorEncoder) -> None:
    encoder = JoinedEncoder(TinyEncoder(), predictor)
    vectors = encoder.encode(SESSIONS)
    assert vectors.shape == (3, encoder.dimension) == (3, 8 + 64)
    np.testing.assert_allclose(np.linalg.norm(vectors[:, :8], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors[:, 8:], axis=1), 1, rtol=1e-5)
    apart = [rounded(part.encode(SESSIONS)) for part in encoder.parts]
    np.testing.assert_array_equal(rounded(vectors), np.concatenate(apart, axis=1))
    assert encoder.encode([]).shape == (0, 72)


def test_its_identity_is_that_of_both(predictor: PredictorEncoder, tmp_path: Path) -> None:
    other = PredictorEncoder(tiny.predictor(tmp_path / "other", tiny.vocabulary(), seed=9))
    longer = PredictorEncoder(tiny.predictor(tmp_path / "longer", tiny.vocabulary(), positions=128))
    assert longer.weights_sha256 == predictor.weights_sha256, "positions are no weights"
    joined = [JoinedEncoder(TinyEncoder(), part) for part in (predictor, other, longer)]
    assert joined[0].weights_sha256 != joined[1].weights_sha256
    assert joined[0].tokenizer_sha256 != joined[2].tokenizer_sha256
    swapped = JoinedEncoder(predictor, TinyEncoder())
    assert len({swapped.weights_sha256, *(e.weights_sha256 for e in joined)}) == 3
