"""The start: a first assignment of users to clusters, and a selector that copies it without being sure of it.

K-means on the embeddings is the paper's (section 4.6, step 2); a mixture of Markov chains finds kinds of visitors that
embeddings of page names do not show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from torch import Tensor
from torch.nn import functional as F

from browsing.encoder import Vectors
from browsing.markov import MarkovMixture
from browsing.selector import Selector
from browsing.vocabulary import Vocabulary
from training.batches import seed_of
from training.dataset import Sample

Floats32 = NDArray[np.float32]

SELECTOR_EPOCHS = 60
SELECTOR_PATIENCE = 6
SELECTOR_BATCH = 128
SELECTOR_LEARNING_RATE = 1e-3
SILHOUETTE_USERS = 5_000
"""Users that a silhouette is measured on: it compares every pair."""


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """Probabilities over the clusters, float32 [N, K], of the training and of the selection users."""

    train: Floats32
    select: Floats32


def token_sessions(samples: Sequence[Sample], vocabulary: Vocabulary, target: bool = True) -> list[list[list[int]]]:
    """Each user's sessions as ids, the next session last if `target`."""
    return [
        [vocabulary.session(pages) for pages in (*s.history, *((s.next_session,) if target else ()))] for s in samples
    ]


def silhouette_clusters(z: Vectors, most: int, seed: int) -> int:
    """The number of clusters, 2 to `most`, at which K-means on `z` [N, d] has the highest silhouette (section 6.2)."""
    scores = {}
    for clusters in range(2, min(most, len(z) - 1) + 1):
        labels = KMeans(clusters, n_init=4, random_state=seed % 2**32).fit_predict(z)
        scores[clusters] = silhouette_score(z, labels, sample_size=min(len(z), SILHOUETTE_USERS), random_state=0)
    return max(scores, key=lambda k: scores[k], default=1)


def likeliest_clusters(
    train: Sequence[Sample], select: Sequence[Sample], vocabulary: Vocabulary, most: int, seed: int
) -> int:
    """The number of Markov components from 1 to `most` under which the selection users' sequences are likeliest."""
    users, held = token_sessions(train, vocabulary), token_sessions(select, vocabulary)
    likelihoods = {}
    for components in range(1, min(most, len(users)) + 1):
        mixture = MarkovMixture.fit(users, len(vocabulary), components, seed=seed % 2**32)
        joint = mixture.log_likelihoods(held) + np.log(mixture.weights)
        likelihoods[components] = float(logsumexp(joint, axis=1).sum())
    return max(likelihoods, key=lambda k: likelihoods[k])


def random_selector(z: Vectors, sizes: Sequence[int], seed: int) -> Selector:
    """Clusters of these `sizes` that mean nothing: `z` [N, d] is cut at quantiles of one random direction.

    The direction lies among those in which users differ least, which say least about them; and the selector knows the
    cuts exactly, so that users who come later are spread alike. With t the place along it, cluster k has the logit
    k t - (q_1 + ... + q_k), whose upper envelope changes from k - 1 to k at the quantile q_k; gelu(t) - gelu(-t) = t.
    """
    generator = np.random.default_rng(seed)
    mean, scale = z.mean(0), np.maximum(z.std(0, ddof=1), 1e-3)
    standard = (z - mean) / scale
    _, directions = np.linalg.eigh(np.cov(standard, rowvar=False).reshape(z.shape[1], z.shape[1]))
    calm = directions[:, : max(1, z.shape[1] // 2)]
    direction = calm @ generator.standard_normal(calm.shape[1])
    cuts = np.quantile(standard @ direction, np.cumsum(sizes)[:-1] / sum(sizes))
    places = np.arange(len(sizes), dtype=np.float64)
    state = {
        "mean": mean,
        "scale": scale,
        "temperature": np.ones(()),
        "hidden.weight": np.stack([direction, -direction]),
        "hidden.bias": np.zeros(2),
        "output.weight": np.stack([places, -places], 1),
        "output.bias": -np.concatenate([[0.0], np.cumsum(cuts)]),
    }
    selector = Selector(z.shape[1], len(sizes), hidden=2)
    selector.load_state_dict({name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in state.items()})
    return selector


def kmeans_start(train: Vectors, select: Vectors, clusters: int, seed: int) -> Assignment:
    """K-means on the embeddings. Raises `ValueError` if there are fewer users than clusters."""
    if len(train) < clusters:
        raise ValueError(f"{len(train)} training users cannot fall into {clusters} clusters")
    model = KMeans(clusters, n_init=4, random_state=seed % 2**32).fit(train)
    one_hot = np.eye(clusters, dtype=np.float32)
    return Assignment(one_hot[model.labels_], one_hot[model.predict(select)] if len(select) else one_hot[:0])


def markov_start(
    mixture: MarkovMixture, train: Sequence[Sample], select: Sequence[Sample], vocabulary: Vocabulary
) -> Assignment:
    """The mixture's responsibilities for every user's history and next session."""
    return Assignment(
        mixture.responsibilities(token_sessions(train, vocabulary)).astype(np.float32),
        mixture.responsibilities(token_sessions(select, vocabulary)).astype(np.float32),
    )


def copy_start(
    train: Vectors,
    select: Vectors,
    assignment: Assignment,
    *,
    seed: int,
    temperature: float,
    smoothing: float,
    advance: Callable[[float], None] = lambda n: None,
) -> Selector:
    """A selector that mimics `assignment` from the embeddings, as far as held-out users show that it can.

    `smoothing` of the target's mass is spread over all clusters, and the finished logits are divided by
    `temperature`: a selector that is sure of its start never leaves it. Training stops when the cross-entropy on the
    selection users has not fallen for a while. Clusters that no training user falls into are kept here: the caller
    drops them.
    """
    torch.manual_seed(seed_of(seed, "selector"))
    selector = Selector(train.shape[1], assignment.train.shape[1])
    z, labels = torch.from_numpy(train), _smooth(assignment.train, smoothing)
    held_z, held_labels = torch.from_numpy(select), _smooth(assignment.select, smoothing)
    if not len(held_z):
        held_z, held_labels = z, labels
    selector.standardise(z)
    optimizer = torch.optim.AdamW(selector.parameters(), lr=SELECTOR_LEARNING_RATE, weight_decay=0.01)
    best, best_loss, best_epoch = _copy(selector), float("inf"), 0
    for epoch in range(1, SELECTOR_EPOCHS + 1):
        order = np.random.default_rng(seed_of(seed, "selector", epoch)).permutation(len(z))
        for start in range(0, len(order), SELECTOR_BATCH):
            rows = torch.from_numpy(order[start : start + SELECTOR_BATCH])
            loss = F.cross_entropy(selector(z[rows]), labels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        with torch.no_grad():
            held = float(F.cross_entropy(selector(held_z), held_labels))
        advance(1)
        if held < best_loss:
            best, best_loss, best_epoch = _copy(selector), held, epoch
        if epoch - best_epoch >= SELECTOR_PATIENCE:
            break
    selector.load_state_dict(best)
    selector.temperature.fill_(temperature)
    return selector


def _smooth(labels: NDArray[np.float32], smoothing: float) -> Tensor:
    return torch.from_numpy((1 - smoothing) * labels + smoothing / labels.shape[1])


def _copy(selector: Selector) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in selector.state_dict().items()}
