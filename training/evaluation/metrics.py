"""The metrics of HeTLM, section 5, defined so that none can be gamed. `docs/metrics.md` says the same in words.

Page metrics compare sets of distinct pages, one visitor at a time. An empty generation scores 0 everywhere, and an
actual page outside the vocabulary stays in every denominator but matches nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from browsing.pages import SPECIAL_TOKENS
from browsing.vocabulary import Vocabulary

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

UNKNOWN = "[UNK]"
NO_PAGES = frozenset(SPECIAL_TOKENS) - {UNKNOWN}
"""Marks that no visitor sees. `[UNK]` is different: in an actual session it stands for a page without a token."""
EDGE = 1e-9
"""A probability counts as at least this far from 0 and 1 in the log loss."""


@dataclass(frozen=True, slots=True)
class PageScores:
    """One visitor's page metrics, each from 0 to 1 (sections 5.1.1 and 5.2.1)."""

    hr: float
    ioa: float
    iop: float
    iou: float
    new_p: float
    val_p: float


def pages_of(session: Iterable[str]) -> frozenset[str]:
    """The distinct pages of a session."""
    return frozenset(session) - NO_PAGES


def page_scores(
    generated: Iterable[str],
    actual: Iterable[str],
    seen: Container[str],
    vocabulary: Vocabulary,
    site: Container[str],
) -> PageScores:
    """Compare one generated session with the actual one.

    `seen`: the pages of the visitor's history; `vocabulary`: what can match; `site`: the real pages, which are valid.
    Raises `ValueError` for an actual session without a page.
    """
    drawn = pages_of(generated) - {UNKNOWN}
    truth = pages_of(actual)
    if not truth:
        raise ValueError("an actual session without a page cannot be scored")
    common = sum(page in vocabulary for page in drawn & truth)
    valid = [page for page in drawn if page in site]
    return PageScores(
        hr=float(common > 0),
        ioa=common / len(truth),
        iop=_ratio(common, len(drawn)),
        iou=common / len(drawn | truth),
        new_p=_ratio(sum(page not in seen for page in valid), len(valid)),
        val_p=_ratio(len(valid), len(drawn)),
    )


def variance(values: Floats) -> float:
    """The population variance of `values` [N], N > 0, over users (section 5.2.2); for HR it is HR (1 - HR)."""
    return float(np.var(values))


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of users by whether an outcome was predicted and whether it happened (sections 5.1.2 and 5.2.3).

    A ratio without a denominator (nothing predicted, nothing happened) is 0: whoever predicts nothing earns nothing.
    """

    hits: int
    false_alarms: int
    misses: int
    rejections: int

    @classmethod
    def count(cls, predicted: Flags, happened: Flags) -> Confusion:
        """From two flags per user, [N] each."""
        return cls(
            hits=int((predicted & happened).sum()),
            false_alarms=int((predicted & ~happened).sum()),
            misses=int((~predicted & happened).sum()),
            rejections=int((~predicted & ~happened).sum()),
        )

    @property
    def predicted(self) -> int:
        return self.hits + self.false_alarms

    @property
    def happened(self) -> int:
        return self.hits + self.misses

    @property
    def accuracy(self) -> float:
        return _ratio(self.hits + self.rejections, self.predicted + self.misses + self.rejections)

    @property
    def recall(self) -> float:
        return _ratio(self.hits, self.happened)

    @property
    def precision(self) -> float:
        return _ratio(self.hits, self.predicted)

    @property
    def f1(self) -> float:
        """2 hits / (predicted + happened): the harmonic mean of precision and recall, 0 without a hit."""
        return _ratio(2 * self.hits, self.predicted + self.happened)


def brier(probabilities: Floats, happened: Flags) -> float:
    """The mean squared distance between probability and what happened (1 or 0), over users [N]."""
    return float(np.mean((probabilities - happened) ** 2))


def log_loss(probabilities: Floats, happened: Flags) -> float:
    """The mean of -log p(what happened), in nats, over users [N]; probabilities are kept `EDGE` away from 0 and 1."""
    kept = np.clip(probabilities, EDGE, 1 - EDGE)
    return float(-np.mean(np.where(happened, np.log(kept), np.log1p(-kept))))


def auc(probabilities: Floats, happened: Flags) -> float | None:
    """How often a user for whom it happened has the higher probability than one for whom it did not; a tie is half.

    None where it happened to nobody or to everybody.
    """
    positives = int(happened.sum())
    negatives = len(happened) - positives
    if positives == 0 or negatives == 0:
        return None
    ranks = rankdata(probabilities)
    return float((ranks[happened].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
