"""Ranking metrics: the pages in the order of their probability, against the distinct pages of the actual session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from browsing.vocabulary import Vocabulary
from training.evaluation.metrics.pages import pages_of

DEPTHS = (5, 10, 20)
NAMES = (*(f"recall_{k}" for k in DEPTHS), *(f"ndcg_{k}" for k in DEPTHS), "mrr")
"""In the order of `ranking_scores`, and the fields of `RankingMetrics`."""

_DISCOUNTS = 1 / np.log2(np.arange(2, max(DEPTHS) + 2))
_IDEAL = np.cumsum(_DISCOUNTS)


def ranking_scores(ranked: Sequence[str], actual: Iterable[str], vocabulary: Vocabulary) -> tuple[float, ...]:
    """One visitor's Recall@k, NDCG@k (k = 5, 10, 20) and reciprocal rank, each from 0 to 1.

    `ranked`: distinct pages, the likeliest first; what comes after place 20 is not read. With r_i = 1 where page i is
    among the n distinct actual pages: Recall@k = sum_{i<=k} r_i / n; NDCG@k = sum_{i<=k} r_i / log2(i + 1) over the
    same sum for min(k, n) hits in front; reciprocal rank = 1 / (first i with r_i = 1), 0 without one. An actual page
    outside the vocabulary counts in n and never matches. Raises `ValueError` for an actual session without a page.
    """
    truth = pages_of(actual)
    if not truth:
        raise ValueError("an actual session without a page cannot be scored")
    hits = np.array([page in truth and page in vocabulary for page in ranked[: max(DEPTHS)]], bool)
    gains = _DISCOUNTS[: len(hits)] * hits
    recalls = tuple(float(hits[:k].sum()) / len(truth) for k in DEPTHS)
    ndcgs = tuple(float(gains[:k].sum() / _IDEAL[min(k, len(truth)) - 1]) for k in DEPTHS)
    return (*recalls, *ndcgs, 1 / (1 + int(hits.argmax())) if hits.any() else 0.0)
