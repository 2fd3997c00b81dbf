"""Who asks whom: every visitor's cluster and prompt, as the service would find them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from browsing.bundle import Bundle, Reference
from browsing.encoder import Encoder
from browsing.forecast import Question
from training.dataset import Sample
from training.embeddings import embed


def assign(bundle: Bundle, samples: Sequence[Sample], encoder: Encoder) -> list[int]:
    """Every visitor's likeliest cluster: the same embedding and selector as the service's."""
    (z,) = embed([samples], encoder, None, bundle.manifest.encoder.decay)
    clusters: list[int] = bundle.selector.probabilities(torch.from_numpy(z)).argmax(1).tolist()
    return clusters


def route(bundle: Bundle, samples: Sequence[Sample], encoder: Encoder) -> list[Question]:
    """What the service would ask an engine about every visitor."""
    return questions(bundle, samples, assign(bundle, samples, encoder))


def questions(bundle: Bundle, samples: Sequence[Sample], clusters: Sequence[int]) -> list[Question]:
    """The same with the `clusters` given, one per sample."""
    limit = bundle.manifest.limits.prompt
    return [
        Question(cluster, bundle.vocabulary.prompt(sample.history, limit).ids, sample.history)
        for cluster, sample in zip(clusters, samples, strict=True)
    ]


def pooled(reference: Reference) -> Reference:
    """The reference for one model that answers everybody: the clusters' pages, weighed by the clusters' shares."""
    shares = np.array(reference.cluster_shares)
    pages: dict[str, float] = {}
    for share, own in zip((shares / shares.sum()).tolist(), reference.pages, strict=True):
        for page, views in own.items():
            pages[page] = pages.get(page, 0.0) + share * views
    return Reference(cluster_shares=(1.0,), pages=(pages,), outcome_rates=reference.outcome_rates)
