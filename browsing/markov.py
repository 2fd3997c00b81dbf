"""The mixture of first-order Markov chains (Cadez et al. 2000): the control, HeTLM's natural start, and the fallback.

Every visitor belongs to one of K components, and walks through all sessions by that component's chain. With
N_k(a, b) the steps from a to b in component k, N without an index their sum over components, a row is smoothed half
towards what everybody does after a and half towards what the component does at all:

    p_k(b | a) = (N_k(a, b) + m (p_0(b | a) + q_k(b)) / 2) / (N_k(a) + m)        m = 100
    p_0(b | a) = (N(a, b) + n u(b)) / (N(a) + n)                                  n = 10
    q_k(b)     = (N_k(b) + n u(b)) / (N_k + n)
    u(b)       = (N(b) + 1/2) / (N + (V - 2) / 2)                                 for the V - 2 ids that can follow

(m: on a portal's, a marketplace's and simulated logs this had the lowest held-out loss, against either half alone and
against m from 3 to 300.) Probabilities are kept sparse: an observed step has its own number; where N(a, b) is zero,
the formula takes four numbers that belong to a or to b alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
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

ROW_PRIOR = 100.0
"""m: how many observed steps the smoothing of a component's row counts for."""
POOLED_PRIOR = 10.0
"""n: the same for the pooled row and for the component's unigram."""
TOLERANCE = 1e-5
"""EM stops when the log-likelihood grows by less than this part of itself."""
TENSORS = ("weights", "probabilities", "backoff", "pooled_backoff", "unigram", "unigrams")
"""The numbers of `markov.safetensors`, besides the int64 `steps`."""


SCREENING = 8
"""Rounds after which random starts are compared."""


class _Document(BaseModel):
    """`markov.json`: what the tensors beside it mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=1, ge=1, le=1)
    vocabulary_size: int = Field(ge=5)
    components: int = Field(ge=1)


@dataclass(frozen=True, slots=True, eq=False)
class _Pooled:
    """The steps of all users together."""

    steps: Ints  # [B] sorted distinct a * V + b
    rows: Floats  # [B] p_0(b | a) of each
    backoff: Floats  # [V] n / (N(a) + n)
    unigram: Floats  # [V] u


class MarkovMixture:
    """K first-order chains over token ids and the shares of visitors that follow them.

    `weights`: float64 [K]. `steps`: int64 [B], the observed steps a * V + b in increasing order; `probabilities`:
    float64 [K, B], p_k(b | a) of each. Every other step has probability
    `backoff[k, a] * (pooled_backoff[a] * unigram[b] + unigrams[k, b]) / 2`, with float64 [K, V], [V], [V] and [K, V].
    `[EOS]` is followed by `[BOS]` for certain, and neither that step nor a session's `[BOS]` costs anything.
    """

    def __init__(
        self,
        weights: Floats,
        steps: Ints,
        probabilities: Floats,
        backoff: Floats,
        pooled_backoff: Floats,
        unigram: Floats,
        unigrams: Floats,
    ) -> None:
        """Raises `ValueError` where the shapes disagree or a number is no probability."""
        self.weights = weights
        self.components = len(weights)
        self.vocabulary_size = len(unigram)
        self.steps = steps
        self.probabilities = probabilities
        self.backoff = backoff
        self.pooled_backoff = pooled_backoff
        self.unigram = unigram
        self.unigrams = unigrams
        K, V = self.components, self.vocabulary_size
        if K < 1 or V <= EOS or probabilities.shape != (K, len(steps)) or pooled_backoff.shape != (V,):
            raise ValueError("its tensors have shapes that do not fit together")
        if backoff.shape != (K, V) or unigrams.shape != (K, V):
            raise ValueError("its tensors have shapes that do not fit together")
        if len(steps) == 0 or (steps[0] < 0 or steps[-1] >= V * V or (np.diff(steps) <= 0).any()):
            raise ValueError("its steps are not distinct, sorted pairs of token ids")
        for numbers in (weights, probabilities, backoff, pooled_backoff, unigram, unigrams):
            if not ((numbers >= 0).all() and (numbers <= 1 + 1e-9).all()):
                raise ValueError("it holds a number that is no probability")
        for shares in (weights, unigram, unigrams):
            if np.abs(shares.sum(-1) - 1).max() > 1e-6:
                raise ValueError("its weights or unigrams do not sum to one")
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
        """EM from random starts; the mixture of the best log-likelihood is kept.

        `users[u]` holds that user's sessions, each `[BOS] pages [EOS]` as ids. Of `4 restarts` random starts the best
        `restarts` after a few rounds are run on for at most `iterations` rounds. `report(round, log_likelihood)` is
        called after each of these, rounds counted from 1 over all restarts, with the log-likelihood of all users in
        nats. Smoothing is no part of what EM maximises, so a round could lower the likelihood in the end: such a round
        is not taken, and ends the restart. Components that are nobody's likeliest are dropped, so the result may have
        fewer than asked for. Raises `ValueError` for no session, a session that is not `[BOS] ... [EOS]`, or an id
        outside the vocabulary.
        """
        if components < 1 or iterations < 1 or restarts < 1:
            raise ValueError("components, iterations and restarts must be at least 1")
        owner, source, target = _transitions(users, vocabulary_size)
        if len(owner) == 0:
            raise ValueError("a Markov mixture needs at least one user with one session")
        steps, index = np.unique(source * vocabulary_size + target, return_inverse=True)
        counts = csr_matrix((np.ones(len(owner)), (owner, index)), shape=(len(users), len(steps)))
        pooled = _pool(steps, np.bincount(index).astype(np.float64), vocabulary_size)
        best, best_likelihood = None, -np.inf
        screened = []
        for start in range(4 * restarts if components > 1 else 1):
            first = _random_start(np.random.default_rng((seed, start)), len(users), components)
            *_, (mixture, likelihood, shares) = cls._climb(pooled, counts, first, SCREENING)
            screened.append((likelihood, shares))
            if likelihood > best_likelihood:
                best, best_likelihood = mixture, likelihood
        screened.sort(key=lambda last: -last[0])
        done = 0
        for _, shares in screened[:restarts]:
            for mixture, likelihood, _ in cls._climb(pooled, counts, shares, iterations):
                done += 1
                if report is not None:
                    report(done, likelihood)
                if likelihood > best_likelihood:
                    best, best_likelihood = mixture, likelihood
        assert best is not None  # every start takes its first round
        return best._without_empty(counts)

    @classmethod
    def _climb(
        cls, pooled: _Pooled, counts: csr_matrix, shares: Floats, rounds: int
    ) -> Iterator[tuple[MarkovMixture, float, Floats]]:
        """EM's rounds from users' shares [N, K]: each one's mixture, its log-likelihood, and the shares it implies."""
        previous = -np.inf
        for _ in range(rounds):
            mixture = cls._maximise(pooled, counts, shares)
            joint = counts @ np.log(mixture.probabilities).T + np.log(mixture.weights)
            evidence = logsumexp(joint, axis=1)
            likelihood = float(evidence.sum())
            if likelihood < previous:
                return
            shares = np.exp(joint - evidence[:, None])
            yield mixture, likelihood, shares
            if likelihood - previous < TOLERANCE * abs(likelihood):
                return
            previous = likelihood

    @classmethod
    def _maximise(cls, pooled: _Pooled, counts: csr_matrix, shares: Floats) -> MarkovMixture:
        """The M step, given every user's shares [N, K]. Components without any share vanish."""
        shares = shares[:, shares.sum(0) > 1e-9]
        weights: Floats = shares.sum(0) / shares.sum()
        own: Floats = np.ascontiguousarray((counts.T @ shares).T)
        V = len(pooled.unigram)
        source, target = pooled.steps // V, pooled.steps % V
        total = np.stack([np.bincount(source, row, minlength=V) for row in own]) + ROW_PRIOR
        unigrams = np.stack([np.bincount(target, row, minlength=V) for row in own]) + POOLED_PRIOR * pooled.unigram
        unigrams /= unigrams.sum(1, keepdims=True)
        towards = (pooled.rows + unigrams[:, target]) / 2
        probabilities = np.asarray((own + ROW_PRIOR * towards) / total[:, source], np.float64)
        backoff = np.asarray(ROW_PRIOR / total, np.float64)
        return cls(weights, pooled.steps, probabilities, backoff, pooled.backoff, pooled.unigram, unigrams)

    def _without_empty(self, counts: csr_matrix) -> MarkovMixture:
        used = np.unique((counts @ np.log(self.probabilities).T + np.log(self.weights)).argmax(1))
        return MarkovMixture(
            self.weights[used] / self.weights[used].sum(),
            self.steps,
            self.probabilities[used],
            self.backoff[used],
            self.pooled_backoff,
            self.unigram,
            self.unigrams[used],
        )

    def step(self, source: Ints, target: Ints) -> Floats:
        """p_k(target | source), float64 [n, K], for ids [n] each. No bounds are checked."""
        keys = source * self.vocabulary_size + target
        place = np.minimum(np.searchsorted(self.steps, keys), len(self.steps) - 1)
        pooled = self.pooled_backoff[source] * self.unigram[target]
        result: Floats = (self.backoff[:, source] * (pooled + self.unigrams[:, target]) / 2).T
        known = self.steps[place] == keys
        result[known] = self.probabilities[:, place[known]].T
        return result

    def rows(self, sources: Ints, shares: Floats) -> Floats:
        """The next token's distribution after `sources` [n] where component k has the share `shares` [n, K]: [n, V]."""
        half = self.backoff[:, sources].T * shares / 2
        result: Floats = half @ self.unigrams
        result += (half.sum(1) * self.pooled_backoff[sources])[:, None] * self.unigram
        for row, (first, last) in enumerate(zip(self._starts[sources], self._starts[sources + 1], strict=True)):
            result[row, self._followers[first:last]] = shares[row] @ self.probabilities[:, first:last]
        return result

    def log_likelihoods(self, users: Users) -> Floats:
        """log p(all sessions | component), float64 [N, K], in nats, without the weights."""
        owner, source, target = _transitions(users, self.vocabulary_size)
        logs = np.log(self.step(source, target))
        totals: Floats = np.stack([np.bincount(owner, column, minlength=len(users)) for column in logs.T], axis=1)
        return totals

    def responsibilities(self, users: Users) -> Floats:
        """p(component | all sessions), float64 [N, K]."""
        return self._posterior(self.log_likelihoods(users))

    def posterior(self, prefix: Sequence[int]) -> Floats:
        """p(component | prefix), float64 [K]. The prefix may be cut anywhere. Raises `ValueError` as `distribution`.

        Only steps that a session can take tell components apart; what leads to `[PAD]` or `[BOS]` is passed over.
        """
        ids = np.asarray(prefix, np.int64)
        if len(ids) == 0 or ids.min() < 0 or ids.max() >= self.vocabulary_size:
            raise ValueError(f"a prefix holds at least one id, each from 0 to {self.vocabulary_size - 1}")
        real = (ids[:-1] != EOS) & (ids[1:] != PAD) & (ids[1:] != BOS)
        logs = np.log(self.step(ids[:-1][real], ids[1:][real])).sum(0)
        shares: Floats = self._posterior(logs[None])[0]
        return shares

    def distribution(self, prefix: Sequence[int]) -> Floats:
        """The next token's distribution [V] after `[BOS] a b [EOS] [BOS] c`, the components mixed by their posterior.

        Raises `ValueError` for an empty prefix or an id outside the vocabulary.
        """
        shares = self.posterior(prefix)
        if prefix[-1] == EOS:
            certain = np.zeros(self.vocabulary_size)
            certain[BOS] = 1.0
            return certain
        following: Floats = self.rows(np.array([prefix[-1]]), shares[None])[0]
        return following

    def _posterior(self, log_likelihoods: Floats) -> Floats:
        joint = log_likelihoods + np.log(self.weights)
        shares: Floats = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        return shares

    def save(self, directory: Path) -> None:
        """Write `markov.safetensors` and `markov.json` into `directory`, which is made if it is missing."""
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in (*TENSORS, "steps")}
        save_file(tensors, directory / "markov.safetensors")
        document = _Document(vocabulary_size=self.vocabulary_size, components=self.components)
        (directory / "markov.json").write_text(json.dumps(document.model_dump(), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, directory: Path) -> MarkovMixture:
        """Read what `save` wrote. Raises `ValueError` if it is not a mixture, `OSError` if a file is missing."""
        try:
            document = _Document.model_validate_json((directory / "markov.json").read_text())
            tensors = load_file(directory / "markov.safetensors")
            floats = {name: np.asarray(tensors[name], np.float64) for name in TENSORS}
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


def _pool(steps: Ints, counts: Floats, V: int) -> _Pooled:
    source, target = steps // V, steps % V
    unigram = np.asarray(np.bincount(target, counts, minlength=V), np.float64) + 0.5
    unigram[[PAD, BOS]] = 0.0
    unigram /= unigram.sum()
    total = np.bincount(source, counts, minlength=V) + POOLED_PRIOR
    backoff = np.asarray(POOLED_PRIOR / total, np.float64)
    return _Pooled(steps, counts / total[source] + backoff[source] * unigram[target], backoff, unigram)


def _random_start(generator: np.random.Generator, users: int, components: int) -> Floats:
    """Shares [N, K]: every component begins from its own few random users, so that the components differ at once."""
    shares = np.zeros((users, components))
    few = max(1, users // (30 * components))
    order = generator.permutation(max(users, components)) % users
    for component in range(components):
        shares[order[component::components][:few], component] = 1.0
    return shares
