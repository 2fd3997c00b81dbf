"""Embeddings, starts, and a selector that copies a start without being sure of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from browsing.encoder import DECAY, Vectors, pool, rounded
from browsing.encoders.joined import JoinedEncoder
from browsing.markov import MarkovMixture
from browsing.vocabulary import Vocabulary
from tests.tiny import TinyEncoder
from tests.training.datasets import PAGES, sample
from training.embeddings import PART, directory_of, embed, encode
from training.starts import Assignment, copy_start, kmeans_start, markov_start, random_selector, token_sessions


class CountingEncoder(TinyEncoder):
    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        self.seen += [tuple(s) for s in sessions]
        return super().encode(sessions)


def two_kinds(n: int, seed: int) -> tuple[Vectors, np.ndarray]:
    generator = np.random.default_rng(seed)
    kinds = generator.integers(2, size=n)
    z = generator.normal(0, 1, (n, 6)).astype(np.float32)
    z[:, 0] += 6 * kinds
    return z, kinds


def test_every_distinct_session_is_encoded_once(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    train = [sample(u, u % 2, generator) for u in range(30)]
    held = [sample(u, u % 2, generator) for u in range(30, 40)]
    encoder = CountingEncoder()
    z, held_z = embed([train, held], encoder, tmp_path)
    assert sorted(encoder.seen) == sorted({s for x in (*train, *held) for s in x.history})
    np.testing.assert_allclose(z[3], pool(rounded(TinyEncoder().encode(train[3].history)), DECAY), rtol=1e-6)
    assert held_z.shape == (10, 8)
    again = CountingEncoder()
    np.testing.assert_array_equal(embed([train, held], again, tmp_path)[0], z)
    assert again.seen == []
    assert embed([train, []], CountingEncoder(), tmp_path)[1].shape == (0, 8)


def test_an_interrupted_encoding_goes_on_part_by_part(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    people = [sample(u, u % 2, generator) for u in range(2_000)]
    embed([people], CountingEncoder(), tmp_path)
    parts = sorted(tmp_path.rglob("*.json"))
    assert len(parts) > 1 or len({s for x in people for s in x.history}) <= PART
    parts[-1].unlink()
    encoder = CountingEncoder()
    embed([people], encoder, tmp_path)
    assert 0 < len(encoder.seen) <= PART


def test_every_encoder_has_its_own_directory_and_a_joined_one_its_parts(tmp_path: Path) -> None:
    class Other(CountingEncoder):
        weights_sha256 = "0" * 64

    class Shorter(CountingEncoder):
        max_tokens = 2

    generator = np.random.default_rng(0)
    people = [sample(u, u % 2, generator) for u in range(10)]
    encoders = [CountingEncoder(), Other(), Shorter()]
    one, other, _ = [embed([people], encoder, tmp_path)[0] for encoder in encoders]
    assert all(encoder.seen for encoder in encoders)
    assert len(list(tmp_path.iterdir())) == len({directory_of(encoder) for encoder in encoders}) == 3
    again = JoinedEncoder(CountingEncoder(), Other())
    np.testing.assert_allclose(embed([people], again, tmp_path)[0], np.concatenate([one, other], axis=1), rtol=1e-6)
    assert [part.seen for part in again.parts if isinstance(part, CountingEncoder)] == [[], []]
    np.testing.assert_array_equal(embed([people], again, None)[0], embed([people], again, tmp_path)[0])
    assert len(list(tmp_path.iterdir())) == 3


def test_the_decay_is_the_one_asked_for(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    people = [sample(u, u % 2, generator) for u in range(10)]
    encoded = encode([people], TinyEncoder(), tmp_path)
    for decay in (0.5, 1.0):
        (z,) = embed([people], TinyEncoder(), tmp_path, decay)
        np.testing.assert_array_equal(encoded.pooled(people, decay), z)
        expected = pool(rounded(TinyEncoder().encode(people[3].history)), decay)
        np.testing.assert_allclose(z[3], expected, rtol=1e-6)
    assert encoded.pooled([], 0.5).shape == (0, 8)


def test_kmeans_finds_what_the_embeddings_show() -> None:
    z, kinds = two_kinds(200, 0)
    held, held_kinds = two_kinds(50, 1)
    start = kmeans_start(z, held, 2, seed=0)
    flip = int(start.train[0].argmax() != kinds[0])
    assert (start.train.argmax(1) == (kinds ^ flip)).mean() > 0.98
    assert (start.select.argmax(1) == (held_kinds ^ flip)).mean() > 0.95
    with pytest.raises(ValueError, match="cannot fall into 9 clusters"):
        kmeans_start(z[:8], held, 9, seed=0)


def test_markov_finds_an_order_that_page_names_do_not_show() -> None:
    generator = np.random.default_rng(0)
    people = [sample(u, u % 2, generator) for u in range(200)]
    words = Vocabulary(PAGES)
    mixture = MarkovMixture.fit(token_sessions(people, words), len(words), 2, seed=0)
    start = markov_start(mixture, people[:150], people[150:], words)
    kinds = np.arange(150) % 2
    agreement = float((start.train.argmax(1) == kinds).mean())
    assert max(agreement, 1 - agreement) > 0.9
    assert start.select.shape == (50, 2)
    np.testing.assert_allclose(start.train.sum(1), 1, rtol=1e-5)


def test_sessions_as_ids_with_and_without_the_next() -> None:
    words = Vocabulary(PAGES)
    one = sample(0, 0, np.random.default_rng(0))
    (ids,) = token_sessions([one], words)
    assert ids == [words.session(s) for s in (*one.history, one.next_session)]
    assert token_sessions([one], words, target=False) == [ids[:-1]]


def test_the_selector_copies_the_start_and_stays_uncertain() -> None:
    z, kinds = two_kinds(400, 0)
    held, held_kinds = two_kinds(100, 1)
    eye = np.eye(2, dtype=np.float32)
    start = Assignment(eye[kinds], eye[held_kinds])
    sharp = copy_start(z, held, start, seed=0, temperature=1.0, smoothing=0.0)
    unsure = copy_start(z, held, start, seed=0, temperature=2.0, smoothing=0.1)
    rows = torch.from_numpy(held)
    for selector in (sharp, unsure):
        assert (selector.probabilities(rows).argmax(1).numpy() == held_kinds).mean() > 0.97
    assert sharp.probabilities(rows).max(1).values.mean() > 0.97
    assert 0.6 < unsure.probabilities(rows).max(1).values.mean() < 0.9


def test_what_cannot_be_told_is_not_learnt_by_heart() -> None:
    generator = np.random.default_rng(0)
    z, held = (generator.normal(size=(n, 64)).astype(np.float32) for n in (300, 300))
    eye = np.eye(2, dtype=np.float32)
    start = Assignment(eye[generator.integers(2, size=300)], eye[generator.integers(2, size=300)])
    selector = copy_start(z, held, start, seed=0, temperature=1.0, smoothing=0.0)
    assert selector.probabilities(torch.from_numpy(held)).max(1).values.mean() < 0.8


def test_random_clusters_have_the_sizes_and_the_selector_knows_them() -> None:
    generator = np.random.default_rng(0)
    z = generator.normal(0, 1, (4000, 6)).astype(np.float32) @ np.diag([9, 5, 1, 1, 0.5, 0.5]).astype(np.float32)
    sizes = [1400, 1000, 800, 500, 200, 100]
    selector = random_selector(z[:2000], [size // 2 for size in sizes], seed=3)
    for part in (z[:2000], z[2000:]):  # those it was made for, and others like them
        own = selector.probabilities(torch.from_numpy(part)).argmax(1).numpy()
        assert np.abs(np.bincount(own, minlength=6) - np.array(sizes) / 2).max() < 60
    alone = random_selector(z[:, :1], [2000, 2000], seed=0)
    assert np.bincount(alone.probabilities(torch.from_numpy(z[:, :1])).argmax(1).numpy()).tolist() == [2000, 2000]
