"""What the service's traffic will be compared with: training's histories, looked at as if they were requests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from browsing.bundle import Reference
from browsing.encoder import Vectors
from browsing.selector import Selector
from browsing.traffic import CONFIDENCE_EDGES, Routing, VisitPages, confidence_bin
from browsing.vocabulary import Vocabulary
from training.data import Data, Embedded
from training.dataset import Sample, users_of

PAGES = 1_000
"""Likeliest pages that are listed; the service knows the rest of the vocabulary as one."""
HELD_OUT = 500
"""Users enough to say how the selector routes people it did not learn from; with fewer, its own are asked, too."""


def with_traffic(reference: Reference, data: Data, embedded: Embedded, selector: Selector) -> Reference:
    """The reference and its `visits`, of everybody that the vocabulary was made from, and its `routing`, of users held
    out from training where they are enough: the selector is surer of those that it knows by heart."""
    held = [*data.select.samples, *data.calibrate.samples]
    z = np.concatenate([embedded.select, embedded.calibrate])
    everybody = [*data.train.samples, *held]
    if users_of(held) < HELD_OUT:
        return _with(reference, everybody, everybody, np.concatenate([embedded.train, z]), data.vocabulary, selector)
    return _with(reference, everybody, held, z, data.vocabulary, selector)


def _with(
    reference: Reference,
    seen: Sequence[Sample],
    routed: Sequence[Sample],
    z: Vectors,
    vocabulary: Vocabulary,
    selector: Selector,
) -> Reference:
    visits, routing = visit_pages(seen, vocabulary), routing_of(routed, z, selector)
    return reference.model_copy(update={"visits": visits, "routing": routing})


def visit_pages(samples: Sequence[Sample], vocabulary: Vocabulary) -> VisitPages:
    """The pages of each history's newest visit. Raises `ValueError` where there is none."""
    weights: defaultdict[str, float] = defaultdict(float)
    newest = [sample.history[-1] for sample in samples if sample.history and sample.history[-1]]
    if not newest:
        raise ValueError("no history holds a visit")
    unknown, unknown_views = 0.0, 0
    for visit in newest:
        for page in visit:
            if page in vocabulary:
                weights[page] += 1 / len(visit)
            else:
                unknown += 1 / len(visit)
                unknown_views += 1
    likeliest = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:PAGES]
    return VisitPages(
        users=users_of(samples),
        pages={page: min(weight / len(newest), 1.0) for page, weight in likeliest},
        unknown=min(unknown / len(newest), 1.0),
        unknown_views=unknown_views / sum(map(len, newest)),
    )


def routing_of(samples: Sequence[Sample], z: Vectors, selector: Selector) -> Routing:
    """Where the selector sends them. `z` [N, d]: the samples' embeddings."""
    confidence, clusters = selector.probabilities(torch.from_numpy(z)).max(1)
    bins = np.bincount([confidence_bin(p) for p in confidence.tolist()], minlength=len(CONFIDENCE_EDGES))
    sizes = np.bincount(clusters.numpy(), minlength=selector.clusters)
    return Routing(
        users=users_of(samples),
        clusters=tuple((sizes / len(samples)).tolist()),
        confidence=tuple((bins / len(samples)).tolist()),
        mean_confidence=min(float(confidence.double().mean()), 1.0),
    )
