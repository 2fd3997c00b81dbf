import asyncio
import dataclasses
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path as File

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from browsing.engine import EngineTimeout, GenerateRequest
from browsing.engines.markov import MarkovEngine
from browsing.engines.sampling import BLOCK, pick, picks, walk
from browsing.markov import POOLED_PRIOR, ROW_PRIOR, MarkovMixture
from browsing.vocabulary import BOS, EOS, PAD, UNK

Users = list[list[list[int]]]
Tensor = NDArray[np.float64]
V = 9


def chains(seed: int = 0, users: int = 60) -> Users:
    """Users of two kinds that walk pages 4..8 in opposite directions, now and then astray."""
    generator = np.random.default_rng(seed)
    out: Users = []
    for user in range(users):
        direction = 1 if user % 2 else -1
        sessions = []
        for _ in range(int(generator.integers(1, 5))):
            page = int(generator.integers(5))
            session = [BOS, 4 + page]
            while generator.random() < 0.8:
                page = (page + (direction if generator.random() < 0.9 else 2)) % 5
                session.append(4 + page)
            sessions.append([*session, EOS])
        out.append(sessions)
    return out


@pytest.fixture(scope="module")
def mixture() -> MarkovMixture:
    return MarkovMixture.fit(chains(), V, 3, seed=1)


def test_one_component_is_the_documented_formula() -> None:
    users: Users = [[[BOS, 4, 5, 4, EOS], [BOS, 4, EOS]], [[BOS, 5, 4, UNK, EOS]]]
    chain = MarkovMixture.fit(users, 6, 1)
    counts = np.zeros((6, 6))
    for user in users:
        for session in user:
            for a, b in pairwise(session):
                counts[a, b] += 1
    unigram = counts.sum(0) + 0.5
    unigram[[PAD, BOS]] = 0
    unigram /= unigram.sum()
    pooled = (counts + POOLED_PRIOR * unigram) / (counts.sum(1, keepdims=True) + POOLED_PRIOR)
    own = (counts.sum(0) + POOLED_PRIOR * unigram) / (counts.sum() + POOLED_PRIOR)
    rows = (counts + ROW_PRIOR * (pooled + own) / 2) / (counts.sum(1, keepdims=True) + ROW_PRIOR)
    for prefix in ([BOS], [BOS, 4], [BOS, 5, 4], [BOS, 4, EOS, BOS, UNK]):
        assert chain.distribution(prefix) == pytest.approx(rows[prefix[-1]], abs=1e-15)
    expected = [sum(np.log(rows[a, b]) for s in user for a, b in pairwise(s)) for user in users]
    assert chain.log_likelihoods(users)[:, 0] == pytest.approx(expected)
    assert chain.weights == pytest.approx([1.0])


def test_a_distribution_sums_to_one_and_never_leaves_the_session(mixture: MarkovMixture) -> None:
    for prefix in ([BOS], [BOS, 4, 7], [BOS, 4, EOS, BOS], [BOS, UNK], [5, EOS, BOS, 8], [BOS, PAD]):
        row = mixture.distribution(prefix)
        assert row.sum() == pytest.approx(1.0, abs=1e-12)
        assert row[[PAD, BOS]].tolist() == [0.0, 0.0]
        assert (np.delete(row, [PAD, BOS]) > 0).all()


def test_a_new_session_follows_an_ended_one(mixture: MarkovMixture) -> None:
    assert mixture.distribution([BOS, 4, EOS]).argmax() == BOS
    assert mixture.distribution([BOS, 4, EOS])[BOS] == 1.0


def test_distributions_multiply_to_the_mixture_of_likelihoods(mixture: MarkovMixture) -> None:
    """The chain rule: the predictive distributions along a user's sessions give the user's marginal likelihood."""
    user = [[BOS, 4, 5, 6, EOS], [BOS, 8, UNK, 8, EOS], [BOS, 4, EOS]]
    ids = [token for session in user for token in session]
    steps = [mixture.distribution(ids[:t])[ids[t]] for t in range(1, len(ids))]
    marginal = mixture.weights @ np.exp(mixture.log_likelihoods([user])[0])
    assert np.prod(steps) == pytest.approx(marginal, rel=1e-10)


def test_responsibilities_are_posteriors_whatever_is_asked_beside(mixture: MarkovMixture) -> None:
    users = chains(5, 10)
    together = mixture.responsibilities(users)
    assert together.sum(1) == pytest.approx(np.ones(10))
    for user, row in zip(users, together, strict=True):
        assert mixture.responsibilities([user])[0] == pytest.approx(row, abs=1e-12)
        assert mixture.posterior([t for s in user for t in s]) == pytest.approx(row, abs=1e-12)
    assert mixture.responsibilities([[]])[0] == pytest.approx(mixture.weights)


def test_em_finds_the_kinds_and_its_likelihood_never_falls() -> None:
    users = chains(1, 200)
    told: list[tuple[int, float]] = []
    mixture = MarkovMixture.fit(users, V, 2, restarts=1, report=lambda i, x: told.append((i, x)))
    rounds, likelihoods = zip(*told, strict=True)
    assert rounds == tuple(range(1, len(told) + 1))
    assert (np.diff(likelihoods) >= 0).all()
    found = mixture.responsibilities(users).argmax(1)
    assert adjusted_rand_score(np.arange(200) % 2, found) > 0.7


def test_the_last_round_told_is_the_likelihood_of_the_mixture_kept() -> None:
    users = chains(2, 80)
    told: list[float] = []
    mixture = MarkovMixture.fit(users, V, 2, restarts=1, report=lambda _, x: told.append(x))
    logs = mixture.log_likelihoods(users) + np.log(mixture.weights)
    assert np.logaddexp.reduce(logs, axis=1).sum() == pytest.approx(told[-1])


def test_equal_seeds_give_equal_mixtures() -> None:
    one, two = (MarkovMixture.fit(chains(), V, 3, seed=4) for _ in range(2))
    assert np.array_equal(one.probabilities, two.probabilities)
    assert np.array_equal(one.weights, two.weights)


def test_components_that_nobody_uses_are_dropped() -> None:
    users: Users = [[[BOS, 4, 5, EOS]]] * 5
    mixture = MarkovMixture.fit(users, V, 4)
    assert mixture.components == len(mixture.weights) == 1
    assert mixture.weights == pytest.approx([1.0])
    assert MarkovMixture.fit(users[:1], V, 4).components == 1


def test_a_large_vocabulary_stays_sparse() -> None:
    generator = np.random.default_rng(0)
    users: Users = [[[BOS, *generator.integers(4, 20_000, 5).tolist(), EOS] for _ in range(2)] for _ in range(100)]
    mixture = MarkovMixture.fit(users, 20_000, 3, iterations=5, restarts=1)
    assert mixture.probabilities.size < 10_000
    assert mixture.distribution([BOS, 4]).sum() == pytest.approx(1.0)


def test_saved_and_loaded_are_equal(mixture: MarkovMixture, tmp_path: File) -> None:
    mixture.save(tmp_path / "fallback")
    assert sorted(p.name for p in (tmp_path / "fallback").iterdir()) == ["markov.json", "markov.safetensors"]
    loaded = MarkovMixture.load(tmp_path / "fallback")
    users = chains(9, 20)
    assert np.array_equal(loaded.log_likelihoods(users), mixture.log_likelihoods(users))
    assert np.array_equal(loaded.distribution([BOS, 4]), mixture.distribution([BOS, 4]))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("markov.json", b"{"),
        ("markov.json", b'{"schema_version": 1, "vocabulary_size": 9, "components": 17}'),
        ("markov.json", b'{"schema_version": 2, "vocabulary_size": 9, "components": 2}'),
        ("markov.safetensors", b"not tensors"),
    ],
)
def test_a_damaged_mixture_is_refused(mixture: MarkovMixture, tmp_path: File, file: str, content: bytes) -> None:
    mixture.save(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match="holds no Markov mixture"):
        MarkovMixture.load(tmp_path)


@pytest.mark.parametrize(
    "name", ["weights", "steps", "probabilities", "backoff", "pooled_backoff", "unigram", "unigrams"]
)
def test_tensors_that_are_no_mixture_are_refused(mixture: MarkovMixture, tmp_path: File, name: str) -> None:
    from safetensors.numpy import load_file, save_file

    mixture.save(tmp_path)
    damages: list[Callable[[Tensor], Tensor]] = [
        lambda t: t[..., :-1],
        lambda t: -1 - t,
        lambda t: t * np.nan if name != "steps" else t[::-1],
    ]
    for damage in damages:
        tensors = load_file(tmp_path / "markov.safetensors")
        tensors[name] = np.ascontiguousarray(damage(tensors[name]))
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / "markov.json").write_bytes((tmp_path / "markov.json").read_bytes())
        save_file(tensors, tmp_path / "bad" / "markov.safetensors")
        with pytest.raises(ValueError, match="holds no Markov mixture"):
            MarkovMixture.load(tmp_path / "bad")


@pytest.mark.parametrize(
    ("session", "says"),
    [
        ([4, EOS], "must read"),
        ([BOS, 4], "must read"),
        ([EOS], "must read"),
        ([BOS, 4, BOS, EOS], "must read"),
        ([BOS, EOS, 4, EOS], "must read"),
        ([BOS, PAD, EOS], "must read"),
        ([BOS, 9, EOS], "outside the vocabulary of 9"),
        ([BOS, -1, EOS], "outside the vocabulary of 9"),
    ],
)
def test_what_is_no_session_is_refused(session: list[int], says: str, mixture: MarkovMixture) -> None:
    with pytest.raises(ValueError, match=says):
        MarkovMixture.fit([[[BOS, 4, EOS], session]], V, 1)
    with pytest.raises(ValueError, match=says):
        mixture.log_likelihoods([[session]])


def test_bad_requests_are_refused(mixture: MarkovMixture) -> None:
    with pytest.raises(ValueError, match="at least one user"):
        MarkovMixture.fit([], V, 2)
    with pytest.raises(ValueError, match="at least 1"):
        MarkovMixture.fit(chains(), V, 0)
    for prefix in ([], [BOS, 9], [-1]):
        with pytest.raises(ValueError, match="from 0 to 8"):
            mixture.distribution(prefix)


def request(**changes: object) -> GenerateRequest:
    base = GenerateRequest(0, (BOS, 4, 5, EOS, BOS), samples=24, max_steps=12, watched=(EOS, 4, 8, UNK), seed=3)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request(prompt=(BOS,), seed=8),
        request(prompt=(BOS, 4, 7), forbidden=(EOS, 5), cluster=2),
        request(samples=1, greedy=True),
        request(samples=1, greedy=True, forbidden=(EOS,), watched=()),
        request(max_steps=1),
    ],
)
def test_the_engine_equals_the_walk(mixture: MarkovMixture, asked: GenerateRequest) -> None:
    engine = MarkovEngine(mixture)
    paths = asyncio.run(engine.generate(asked))
    expected = walk(asked, mixture.distribution)
    assert len(paths) == asked.samples
    for path, other in zip(paths, expected, strict=True):
        assert path.tokens == other.tokens
        assert path.finished == other.finished
        assert path.watched.shape == (len(path.tokens), len(asked.watched))
        assert path.watched == pytest.approx(other.watched, abs=1e-12)


def test_a_large_vocabulary_is_walked_alike() -> None:
    """Several hundred ids, the last ones never drawn, and paths that share a state and that do not."""
    generator = np.random.default_rng(1)
    pages = 4 + generator.zipf(1.2, (400, 5)) % 390
    users: Users = [[[BOS, *row[:3], EOS], [BOS, *row[3:], EOS]] for row in pages.tolist()]
    large = MarkovMixture.fit(users, 400, 3, iterations=5, restarts=1)
    asked = GenerateRequest(
        0, (BOS, 5, EOS, BOS), samples=32, max_steps=6, watched=(EOS, 5, 399), forbidden=(5, 398, 399), seed=4
    )
    for path, other in zip(MarkovEngine(large).sample(asked), walk(asked, large.distribution), strict=True):
        assert path.tokens == other.tokens
        assert path.watched == pytest.approx(other.watched, abs=1e-12)


@pytest.mark.parametrize("width", [1, BLOCK - 1, BLOCK, 3 * BLOCK, 3 * BLOCK + 1])
def test_many_picks_are_each_the_pick(width: int) -> None:
    generator = np.random.default_rng(width)
    choices = generator.random((5, width)) * (generator.random((5, width)) < 0.3)
    choices[:, width // 2] = 0.1
    choices[:3, width // 2 + 1 :] = 0.0  # nothing in the last blocks
    rows = generator.integers(0, 5, 200)
    uniforms = np.concatenate([generator.random(150), np.zeros(25), np.ones(25)])  # rounding may make a bound the total
    picked = picks(choices, rows, uniforms)
    assert picked.tolist() == [pick(choices[row], u) for row, u in zip(rows, uniforms.tolist(), strict=True)]
    with pytest.raises(ValueError, match="nothing is allowed"):
        picks(np.zeros((1, width)), np.zeros(1, np.int64), np.array([0.5]))


def test_the_engine_refuses_what_it_cannot_answer(mixture: MarkovMixture) -> None:
    engine = MarkovEngine(mixture)
    for changes in ({"prompt": (BOS, 9)}, {"watched": (9,)}, {"forbidden": (-1,)}):
        with pytest.raises(ValueError, match="outside the vocabulary of 9"):
            engine.sample(request(**changes))
    with pytest.raises(ValueError, match="ends in"):
        engine.sample(request(prompt=(BOS, 4, EOS)))
    with pytest.raises(ValueError, match="nothing is allowed"):
        engine.sample(request(forbidden=tuple(range(V))))
    with pytest.raises(EngineTimeout, match="deadline"):
        engine.sample(request(deadline=0.0))


def test_the_engine_starts_and_is_healthy(mixture: MarkovMixture) -> None:
    async def scenario() -> dict[int, bool]:
        engine = MarkovEngine(mixture)
        await engine.start()
        healthy = await engine.healthy()
        await engine.stop()
        return healthy

    assert asyncio.run(scenario()) == {0: True}


def test_the_engine_is_quick() -> None:
    """Three sets of 16 samples over 1,200 ids; the bound leaves room for a busy machine."""
    generator = np.random.default_rng(0)
    pages = 4 + generator.zipf(1.3, (3000, 6)) % 1196
    users: Users = [[[BOS, *row, EOS]] for row in pages.tolist()]
    engine = MarkovEngine(MarkovMixture.fit(users, 1200, 4, iterations=5, restarts=1))
    asked = GenerateRequest(
        0, (BOS, 5, EOS, BOS), samples=16, max_steps=20, watched=tuple(range(4, 100)), forbidden=(EOS,)
    )
    took = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(3):
            engine.sample(asked)
        took.append(time.process_time() - began)
    assert min(took) < 0.1
