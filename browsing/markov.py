"""The mixture of first-order Markov chains (Cadez et al. 2000): the control, HeTLM's natural start, and the fallback.

Every visitor belongs to one of K components, and walks through all sessions by that component's chain. With
N_k(a, b) the steps from a to b in component k, N(a, b) their sum over components, and V - 2 ids that can follow
another (all but `[PAD]` and `[BOS]`), a row is smoothed towards what everybody does after a, and that towards what
everybody does at all:

    p_k(b | a) = (N_k(a, b) + m p_0(b | a)) / (N_k(a) + m)
    p_0(b | a) = (N(a, b) + m u(b)) / (N(a) + m)
    u(b)       = (N(b) + 1/2) / (N + (V - 2) / 2)

The first line is the mode of the row's posterior under the prior Dirichlet(m p_0(. | a) + 1), which does not move
while EM runs, so the log posterior that EM climbs never falls. Probabilities are kept sparse: an observed step has
its own number, every other one is `backoff_k(a) u(b)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix
from scipy.special import logsumexp

from browsing.vocabulary import BOS, EOS, PAD

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Users = Sequence[Sequence[Sequence[int]]]

CONCENTRATION = 10.0
"""m: how many observed steps the smoothing of a row counts for."""
TOLERANCE = 1e-6
"""EM stops when the log posterior grows by less than this part of itself."""


class _Document(BaseModel):
    """`markov.json`: what the tensors beside it mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=1, ge=1, le=1)
    vocabulary_size: int = Field(ge=5)
    components: int = Field(ge=1)


@dataclass(frozen=True, slots=True, eq=False)
class _Pooled:
    """The steps of all users together: p_0 over the observed steps, and what EM needs of the prior."""

    keys: Ints  # [B] sorted distinct a * V + b
    source: Ints  # [B]
    rows: Floats  # [B] p_0(b | a) of every observed step
    backoff: Floats  # [V] m / (N(a) + m)
    unigram: Floats  # [V] u
    unseen: Floats  # [V] p_0's mass on what never followed a


class MarkovMixture:
    """K first-order chains over token ids and the shares of visitors that follow them.

    `steps`: int64 [B], the observed steps a * V + b in increasing order; `probabilities`: float64 [K, B], p_k(b | a) of
    each; `backoff`: float64 [K, V] and `unigram`: float64 [V] give every other step; `weights`: float64 [K].
    `[EOS]` is followed by `[BOS]` for certain, and neither that step nor a session's `[BOS]` costs anything.
    """

    def __init__(self, weights: Floats, steps: Ints, probabilities: Floats, backoff: Floats, unigram: Floats) -> None:
        """Raises `ValueError` where the shapes disagree or a number is no probability."""
        self.weights = weights
        self.components = len(weights)
        self.vocabulary_size = len(unigram)
        self.steps = steps
        self.probabilities = probabilities
        self.backoff = backoff
        self.unigram = unigram
        K, V = self.components, self.vocabulary_size
        if K < 1 or V <= EOS or probabilities.shape != (K, len(steps)) or backoff.shape != (K, V):
            raise ValueError("the mixture's tensors have shapes that do not fit together")
        if len(steps) and (steps[0] < 0 or steps[-1] >= V * V or (np.diff(steps) <= 0).any()):
            raise ValueError("the mixture's steps are not distinct, sorted pairs of token ids")
        for numbers in (weights, probabilities, backoff, unigram):
            if not (np.isfinite(numbers).all() and (numbers >= 0).all() and (numbers <= 1 + 1e-9).all()):
                raise ValueError("the mixture holds a number that is no probability")
        if abs(weights.sum() - 1) > 1e-6 or abs(unigram.sum() - 1) > 1e-6:
            raise ValueError("the mixture's weights or its unigram do not sum to one")
        self._followers = steps % V
        self._starts = np.searchsorted(steps, np.arange(V + 1) * V)

    @classmethod
    def fit(
        cls,
        users: Users,
        vocabulary_size: int,
        components: int,
        *,
        seed: int = 0,
        iterations: int = 50,
        restarts: int = 3,
        report: Callable[[int, float], None] | None = None,
    ) -> MarkovMixture:
        """EM from `restarts` random starts of at most `iterations` rounds; the best log posterior is kept.

        `users[u]` holds that user's sessions, each `[BOS] pages [EOS]` as ids. `report(round, log_posterior)` is called
        after every round, rounds counted from 1 over all restarts; the log posterior is in nats, up to a constant.
        Components that are nobody's likeliest are dropped, so the result may have fewer than asked for. Raises
        `ValueError` for no user, a session that is not `[BOS] ... [EOS]`, or an id outside the vocabulary.
        """
        if components < 1 or iterations < 1 or restarts < 1:
            raise ValueError("components, iterations and restarts must be at least 1")
        owner, source, target = _transitions(users, vocabulary_size)
        if len(users) == 0 or len(owner) == 0:
            raise ValueError("a Markov mixture needs at least one user with one session")
        keys, index = np.unique(source * vocabulary_size + target, return_inverse=True)
        counts = csr_matrix((np.ones(len(owner)), (owner, index)), shape=(len(users), len(keys)))
        pooled = _pool(keys, np.bincount(index).astype(np.float64), vocabulary_size)
        done = 0
        best, best_posterior = None, -np.inf
        for restart in range(restarts if components > 1 else 1):
            generator = np.random.default_rng((seed, restart))
            shares = _random_start(generator, len(users), components)
            previous = -np.inf
            for _ in range(iterations):
                mixture = cls._maximise(pooled, counts, shares)
                joint = counts @ np.log(mixture.probabilities).T + np.log(mixture.weights)
                evidence = logsumexp(joint, axis=1)
                posterior = float(evidence.sum()) + mixture._log_prior(pooled)
                shares = np.exp(joint - evidence[:, None])
                done += 1
                if report is not None:
                    report(done, posterior)
                if posterior > best_posterior:
                    best, best_posterior = mixture, posterior
                if posterior - previous < TOLERANCE * abs(posterior):
                    break
                previous = posterior
        assert best is not None  # iterations and restarts are at least one
        return best._without_empty(counts)

    @classmethod
    def _maximise(cls, pooled: _Pooled, counts: csr_matrix, shares: Floats) -> MarkovMixture:
        """The M step: the posterior's mode given every user's shares [N, K]. Components without any share vanish."""
        mass = shares.sum(0)
        shares = shares[:, mass > 1e-9]
        own: Floats = np.ascontiguousarray((counts.T @ shares).T)
        V = len(pooled.unigram)
        total = np.stack([np.bincount(pooled.source, row, minlength=V) for row in own]) + CONCENTRATION
        probabilities = (own + CONCENTRATION * pooled.rows) / total[:, pooled.source]
        weights = shares.sum(0) / shares.sum()
        return cls(weights, pooled.keys, probabilities, CONCENTRATION / total * pooled.backoff, pooled.unigram)

    def _log_prior(self, pooled: _Pooled) -> float:
        """log of the rows' Dirichlet priors, up to a constant: m sum_k sum_a sum_b p_0(b | a) log p_k(b | a)."""
        seen = float((pooled.rows * np.log(self.probabilities)).sum())
        unseen = float((pooled.unseen * np.log(self.backoff)).sum())
        return CONCENTRATION * (seen + unseen)

    def _without_empty(self, counts: csr_matrix) -> MarkovMixture:
        likeliest = (counts @ np.log(self.probabilities).T + np.log(self.weights)).argmax(1)
        used = np.unique(likeliest)
        weights = self.weights[used] / self.weights[used].sum()
        return MarkovMixture(weights, self.steps, self.probabilities[used], self.backoff[used], self.unigram)

    def step(self, source: Ints, target: Ints) -> Floats:
        """p_k(target | source), float64 [n, K], for ids [n] each. No bounds are checked."""
        keys = source * self.vocabulary_size + target
        place = np.searchsorted(self.steps, keys)
        place[place == len(self.steps)] = 0
        result: Floats = (self.backoff[:, source] * self.unigram[target]).T
        known = self.steps[place] == keys if len(self.steps) else np.zeros(len(keys), bool)
        result[known] = self.probabilities[:, place[known]].T
        return result

    def rows(self, sources: Ints, shares: Floats) -> Floats:
        """The next token's distribution after `sources` [n] where component k has the share `shares` [n, K]: [n, V]."""
        spread = (self.backoff[:, sources].T * shares).sum(1)
        result: Floats = spread[:, None] * self.unigram
        starts = self._starts[sources]
        lengths = self._starts[sources + 1] - starts
        row = np.repeat(np.arange(len(sources)), lengths)
        place = np.arange(len(row)) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
        result[row, self._followers[place]] = (self.probabilities[:, place] * shares[row].T).sum(0)
        return result

    def log_likelihoods(self, users: Users) -> Floats:
        """log p(all sessions | component), float64 [N, K], in nats, without the weights."""
        owner, source, target = _transitions(users, self.vocabulary_size)
        logs = np.log(self.step(source, target))
        return np.stack([np.bincount(owner, column, minlength=len(users)) for column in logs.T], axis=1)

    def responsibilities(self, users: Users) -> Floats:
        """p(component | all sessions), float64 [N, K]."""
        return self._posterior(self.log_likelihoods(users))

    def posterior(self, prefix: Sequence[int]) -> Floats:
        """p(component | prefix), float64 [K]. The prefix may be cut anywhere. Raises `ValueError` as `distribution`."""
        ids = np.asarray(prefix, np.int64)
        if len(ids) == 0 or ids.min() < 0 or ids.max() >= self.vocabulary_size:
            raise ValueError(f"a prefix holds at least one id, each from 0 to {self.vocabulary_size - 1}")
        real = ids[:-1] != EOS
        logs = np.log(self.step(ids[:-1][real], ids[1:][real])).sum(0)
        return self._posterior(logs[None])[0]

    def distribution(self, prefix: Sequence[int]) -> Floats:
        """The next token's distribution [V] after `[BOS] a b [EOS] [BOS] c`, the components mixed by their posterior.

        Raises `ValueError` for an empty prefix or an id outside the vocabulary.
        """
        shares = self.posterior(prefix)
        if prefix[-1] == EOS:
            certain = np.zeros(self.vocabulary_size)
            certain[BOS] = 1.0
            return certain
        return self.rows(np.array([prefix[-1]]), shares[None])[0]

    def _posterior(self, log_likelihoods: Floats) -> Floats:
        joint = log_likelihoods + np.log(self.weights)
        shares: Floats = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        return shares

    def save(self, directory: Path) -> None:
        """Write `markov.safetensors` and `markov.json` into `directory`, which is made if it is missing."""
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {
            "weights": self.weights,
            "steps": self.steps,
            "probabilities": np.ascontiguousarray(self.probabilities),
            "backoff": np.ascontiguousarray(self.backoff),
            "unigram": self.unigram,
        }
        save_file(tensors, directory / "markov.safetensors")
        document = _Document(vocabulary_size=self.vocabulary_size, components=self.components)
        (directory / "markov.json").write_text(json.dumps(document.model_dump(), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, directory: Path) -> MarkovMixture:
        """Read what `save` wrote. Raises `ValueError` if it is not a mixture, `OSError` if a file is missing."""
        try:
            document = _Document.model_validate_json((directory / "markov.json").read_text())
            tensors = load_file(directory / "markov.safetensors")
            floats = {n: np.asarray(tensors[n], np.float64) for n in ("weights", "probabilities", "backoff", "unigram")}
            mixture = cls(steps=np.asarray(tensors["steps"], np.int64), **floats)
        except (ValidationError, SafetensorError, KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{directory} holds no Markov mixture: {error}") from error
        if (mixture.vocabulary_size, mixture.components) != (document.vocabulary_size, document.components):
            raise ValueError(f"{directory} holds no Markov mixture: markov.json does not fit markov.safetensors")
        return mixture


def _transitions(users: Users, vocabulary_size: int) -> tuple[Ints, Ints, Ints]:
    """Every step inside a session: its user, the id before and the id after, int64 [steps] each."""
    sessions = [session for user in users for session in user]
    lengths = np.fromiter(map(len, sessions), np.int64, len(sessions))
    ids = np.fromiter(chain.from_iterable(sessions), np.int64, int(lengths.sum()))
    ends = np.cumsum(lengths)
    if (lengths < 2).any() or (ids[ends - lengths] != BOS).any() or (ids[ends - 1] != EOS).any():
        raise ValueError("a session must read [BOS] pages [EOS]")
    if len(ids) and (ids.min() < 0 or ids.max() >= vocabulary_size):
        raise ValueError(f"a token id is outside the vocabulary of {vocabulary_size}")
    inner = np.ones(len(ids), bool)
    inner[ends - lengths] = False
    target = ids[inner]
    if np.isin(target, (PAD, BOS)).any() or (target == EOS).sum() != len(sessions):
        raise ValueError("a session must read [BOS] pages [EOS]")
    inner = np.ones(len(ids), bool)
    inner[ends - 1] = False
    per_user = np.repeat(np.arange(len(users)), [len(user) for user in users])
    return np.repeat(per_user, lengths - 1), ids[inner], target


def _pool(keys: Ints, counts: Floats, V: int) -> _Pooled:
    source, target = keys // V, keys % V
    unigram = np.bincount(target, counts, minlength=V) + 0.5
    unigram[[PAD, BOS]] = 0.0
    unigram /= unigram.sum()
    total = np.bincount(source, counts, minlength=V) + CONCENTRATION
    backoff = CONCENTRATION / total
    rows = counts / total[source] + backoff[source] * unigram[target]
    unseen = np.clip(backoff * (1.0 - np.bincount(source, unigram[target], minlength=V)), 0.0, 1.0)
    return _Pooled(keys, source, rows, backoff, unigram, unseen)


def _random_start(generator: np.random.Generator, users: int, components: int) -> Floats:
    """Shares [N, K]: every component begins from its own few random users, so that the components differ at once."""
    shares = np.zeros((users, components))
    few = max(1, users // (10 * components))
    order = generator.permutation(max(users, components)) % users
    for component in range(components):
        shares[order[component::components][:few], component] = 1.0
    return shares
