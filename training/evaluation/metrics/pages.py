"""The page metrics of HeTLM, section 5, defined so that none can be gamed. `docs/metrics.md` says the same in words.

Page metrics compare sets of distinct pages, one visitor at a time. An empty generation scores 0 everywhere, and an
actual page outside the vocabulary stays in every denominator but matches nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from browsing.pages import SPECIAL_TOKENS
from browsing.vocabulary import Vocabulary

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

UNKNOWN = "[UNK]"
NO_PAGES = frozenset(SPECIAL_TOKENS) - {UNKNOWN}
"""Marks that no visitor sees. `[UNK]` is different: in an actual session it stands for a page without a token."""


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


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
