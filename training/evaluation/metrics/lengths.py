"""Pages at equal length: a method's n likeliest pages instead of its session, so that methods predict equally many.

HR and IoA grow with the number of pages, and IoU peaks at some number: a session of three pages and one of five compare
in what they hold and in how many they are. What a method's ranking is worth at any length n from 0 to `MOST` follows
from which of its likeliest pages came true, one bit each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from browsing.vocabulary import Vocabulary
from training.evaluation.metrics.pages import Floats, Ints, pages_of

MOST = 20
"""Likeliest pages that are read: as many as the ranking metrics do."""
HITS, RANKED, ACTUAL = "likeliest.hits", "likeliest.pages", "actual.pages"
"""Columns of the values per user: bit i for the page at place i + 1, the number of ranked pages, and of actual ones."""
SCORES = ("hr", "ioa", "iop", "iou")


@dataclass(frozen=True)
class Likeliest:
    """`hits` [N]: bit i is set where the page at place i + 1 came true; `ranked` [N]: pages ranked, at most `MOST`;
    `actual` [N]: distinct pages of the actual session."""

    hits: Ints
    ranked: Ints
    actual: Ints

    @classmethod
    def of(cls, ranked: Sequence[Sequence[str]], actual: Sequence[Iterable[str]], vocabulary: Vocabulary) -> Likeliest:
        """`ranked` [N]: distinct pages, the likeliest first. An actual page outside the vocabulary counts and never
        matches, as everywhere."""
        truths = [pages_of(session) for session in actual]
        hits = [
            sum(1 << place for place, page in enumerate(pages[:MOST]) if page in truth and page in vocabulary)
            for pages, truth in zip(ranked, truths, strict=True)
        ]
        return cls(
            np.array(hits, np.int64),
            np.array([min(len(pages), MOST) for pages in ranked], np.int64),
            np.array([len(truth) for truth in truths], np.int64),
        )

    @classmethod
    def read(cls, users: pl.DataFrame) -> Likeliest | None:
        """From the values per user; None where they were written before they held it."""
        if not {HITS, RANKED, ACTUAL} <= set(users.columns):
            return None
        return cls(*(users[name].cast(pl.Int64).to_numpy() for name in (HITS, RANKED, ACTUAL)))

    def columns(self) -> dict[str, pl.Series]:
        """For the values per user, in as few bytes as they need."""
        return {
            HITS: pl.Series(self.hits, dtype=pl.UInt32),
            RANKED: pl.Series(self.ranked, dtype=pl.UInt8),
            ACTUAL: pl.Series(self.actual, dtype=pl.UInt32),
        }

    @cached_property
    def lengths(self) -> Ints:
        """[N, MOST + 1]: how many pages "the n likeliest" are, for n from 0: never more than there are."""
        counts: Ints = np.minimum(np.arange(MOST + 1), self.ranked[:, None])
        return counts

    @cached_property
    def scores(self) -> dict[str, Floats]:
        """HR, IoA, IoP and IoU [N, MOST + 1] of the n likeliest pages; no page scores 0."""
        bits = (self.hits[:, None] >> np.arange(MOST)) & 1
        common = np.concatenate([np.zeros((len(bits), 1), np.int64), bits.cumsum(1)], axis=1).astype(np.float64)
        pages = self.lengths.astype(np.float64)
        return {
            "hr": (common > 0).astype(np.float64),
            "ioa": common / self.actual[:, None],
            "iop": np.divide(common, pages, out=np.zeros_like(common), where=pages > 0),
            "iou": common / (pages + self.actual[:, None] - common),
        }

    def cut(self, lengths: Ints) -> tuple[dict[str, Floats], Floats]:
        """(scores [N], pages [N]) with `lengths` [N] pages for each, or as many as are ranked."""
        places = np.minimum(lengths, MOST)[:, None]
        scores = {name: np.take_along_axis(values, places, 1)[:, 0] for name, values in self.scores.items()}
        return scores, np.take_along_axis(self.lengths, places, 1)[:, 0].astype(np.float64)
