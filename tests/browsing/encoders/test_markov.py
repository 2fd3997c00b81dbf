"""The Markov mixture as an encoder, against the mixture's own likelihoods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from browsing.encoder import pool, rounded
from browsing.encoders.markov import HABITS, LARGEST, MarkovEncoder, habits
from browsing.markov import MarkovMixture
from tests import tiny

WORDS = tiny.vocabulary()
USERS = tiny.toy_users(tiny.SIX_PAGES, users=80)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixture")
    MarkovMixture.fit([[WORDS.session(s) for s in user] for user in USERS], len(WORDS), 2, seed=0).save(root)
    return root


@pytest.fixture(scope="module")
def encoder(directory: Path) -> MarkovEncoder:
    return MarkovEncoder(directory, WORDS)


def test_the_posterior_is_a_function_of_the_pooled_vector(directory: Path, encoder: MarkovEncoder) -> None:
    mixture = MarkovMixture.load(directory)
    for user in USERS[:10]:
        z = pool(encoder.encode(user), 1.0)[:-HABITS]
        joint = np.log(mixture.weights) + len(user) * z
        posterior = np.exp(joint) / np.exp(joint).sum()
        expected = mixture.responsibilities([[WORDS.session(s) for s in user]])[0]
        np.testing.assert_allclose(posterior, expected, atol=1e-5)


def test_it_tells_the_kinds_apart_after_rounding(encoder: MarkovEncoder) -> None:
    own = np.array([pool(rounded(encoder.encode(user)), 1.0)[:-HABITS].argmax() for user in USERS])
    kinds = np.arange(len(USERS)) % 2
    assert max((own == kinds).mean(), (own != kinds).mean()) > 0.95


def test_company_changes_nothing(encoder: MarkovEncoder) -> None:
    sessions = [session for user in USERS[:20] for session in user]
    together = encoder.encode(sessions)
    assert together.dtype == np.float32
    assert together.shape == (len(sessions), encoder.dimension) == (len(sessions), 2 + HABITS)
    np.testing.assert_array_equal(np.concatenate([encoder.encode([s]) for s in sessions]), together)
    np.testing.assert_allclose(together[:, :-HABITS].sum(1), 0, atol=1e-4)


def test_habits_are_counted() -> None:
    assert habits(["/a", "/b", "/a", "/c", "/b", "/c"]) == (6, 2, 3)
    assert habits(["/a"]) == (1, 0, 0)
    assert habits([]) == (0, 0, 0)


def test_the_order_of_a_session_and_its_reverse_differ_in_evidence_not_in_habits(encoder: MarkovEncoder) -> None:
    session = list(USERS[0][0])
    forth, back = encoder.encode([session, session[::-1]])
    np.testing.assert_array_equal(forth[-HABITS:], habits(session))
    np.testing.assert_array_equal(back[-HABITS:], forth[-HABITS:])


def test_no_session_an_empty_one_and_a_very_long_one(encoder: MarkovEncoder) -> None:
    assert encoder.encode([]).shape == (0, 2 + HABITS)
    assert np.isfinite(encoder.encode([[], ["/unheard-of"]])).all()
    long = encoder.encode([list(tiny.SIX_PAGES) * 20_000])
    assert np.abs(long).max() == LARGEST
    assert np.isfinite(rounded(long)).all()


def test_a_mixture_of_another_vocabulary_is_refused(directory: Path) -> None:
    with pytest.raises(ValueError, match="10 tokens cannot read a vocabulary of 9"):
        MarkovEncoder(directory, tiny.vocabulary(tiny.SIX_PAGES[:-1]))


def test_its_identity_is_the_file_and_the_vocabulary(directory: Path, tmp_path: Path, encoder: MarkovEncoder) -> None:
    MarkovMixture.load(directory).save(tmp_path)
    assert MarkovEncoder(tmp_path, WORDS).weights_sha256 == encoder.weights_sha256, "saved again, it is the same"
    assert encoder.tokenizer_sha256 == WORDS.sha256
