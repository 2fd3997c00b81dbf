"""Corpus BLEU from counts per session, so that it can be computed under any weights of the sessions.

BLEU is no mean of sessions, but all that it reads of them are sums: n-grams that match, n-grams generated, and lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from training.evaluation.metrics.pages import NO_PAGES, UNKNOWN, Flags, Floats, Ints

ORDER = 4
"""BLEU counts n-grams of up to four pages."""
ACTUAL = "bleu.actual"
"""Column of the values per user that all decodes share: the length of the actual session."""


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """`matches` [N, ORDER]: n-grams of 1 to `ORDER` pages that a session shares with the actual one, each counted as
    often as both have it; `generated`, `actual` [N]: lengths of the two in pages, repeated ones too."""

    matches: Ints
    generated: Ints
    actual: Ints

    @classmethod
    def of(cls, generated: Sequence[Sequence[str]], actual: Sequence[Sequence[str]]) -> Self:
        """Counted by sacrebleu, of sessions as sentences of pages.

        A page is one word whatever it is called; nothing is tokenised again. As elsewhere a generated `[UNK]` is
        dropped and an actual one matches nothing. Raises `ValueError` for sequences of different lengths, or of none.
        """
        from sacrebleu.metrics.helpers import extract_all_word_ngrams

        if not actual:
            raise ValueError("there is no session to compare")
        # Words for sacrebleu are what white space parts, and a page may hold some; its number does not.
        words: dict[str, str] = {}
        matches = np.zeros((len(actual), ORDER), np.int64)
        lengths = np.zeros((len(actual), 2), np.int64)
        for place, (drawn, truth) in enumerate(zip(generated, actual, strict=True)):
            own, lengths[place, 0] = extract_all_word_ngrams(_sentence(drawn, words, _DROPPED), 1, ORDER)
            others, lengths[place, 1] = extract_all_word_ngrams(_sentence(truth, words, NO_PAGES), 1, ORDER)
            for ngram, count in (own & others).items():
                matches[place, len(ngram) - 1] += count
        return cls(matches, lengths[:, 0], lengths[:, 1])

    @classmethod
    def read(cls, users: pl.DataFrame, decode: str) -> Self | None:
        """From the values per user; None where they were written before they held it."""
        names = [*_matches(decode), _generated(decode), ACTUAL]
        if not set(names) <= set(users.columns):
            return None
        *matches, generated, actual = (users[name].cast(pl.Int64).to_numpy() for name in names)
        return cls(np.stack(matches, 1), generated, actual)

    def columns(self, decode: str) -> dict[str, pl.Series]:
        """For the values per user."""
        counts = dict(zip(_matches(decode), self.matches.T, strict=True))
        counts |= {_generated(decode): self.generated, ACTUAL: self.actual}
        return {name: pl.Series(np.ascontiguousarray(values), dtype=pl.UInt32) for name, values in counts.items()}

    def among(self, members: Flags) -> Self:
        """Those of the sessions that `members` [N] marks."""
        return type(self)(self.matches[members], self.generated[members], self.actual[members])


@dataclass(frozen=True, slots=True, eq=False)
class Bleu:
    """What corpus BLEU sums over N sessions, `counts` [N, 2 order + 2]: n-grams that match and n-grams generated, of 1
    to `order` pages, and the two lengths."""

    counts: Floats
    order: int

    @classmethod
    def of(cls, overlaps: Overlaps) -> Self:
        """n-grams are counted up to `ORDER` pages, or up to the longest actual session where all are shorter: otherwise
        a site of short visits would score 0 by definition. The truth sets this, so that a model cannot lower the bar by
        generating little; and all sessions set it, whatever their weights, so that it is one and the same figure."""
        order = max(1, min(ORDER, int(overlaps.actual.max())))
        generated = np.maximum(overlaps.generated[:, None] - np.arange(order), 0)
        parts = (overlaps.matches[:, :order], generated, overlaps.generated[:, None], overlaps.actual[:, None])
        return cls(np.concatenate(parts, 1).astype(np.float64), order)

    def under(self, weights: Floats) -> Floats:
        """Corpus BLEU [R], 0 to 100, under `weights` [R, N]: the geometric mean of the precisions, times the penalty
        for generating fewer pages than there are. Precisions without a match are smoothed as sacrebleu does by default
        ("exp"): half a match for the first such order, a quarter for the next."""
        sums = weights @ self.counts
        matches, totals = sums[:, : self.order], sums[:, self.order : 2 * self.order]
        generated, actual = sums[:, -2], sums[:, -1]
        missing = matches == 0
        precisions = np.where(missing, 0.5 ** np.cumsum(missing, 1), matches) / np.maximum(totals, 1)
        penalty = np.minimum(0, 1 - actual / np.maximum(generated, 1))
        defined = (totals > 0).all(1) & (matches > 0).any(1)
        scores: Floats = np.where(defined, 100 * np.exp(penalty + np.log(precisions).mean(1)), 0.0)
        return scores


_DROPPED = frozenset((*NO_PAGES, UNKNOWN))


def _matches(decode: str) -> list[str]:
    return [f"{decode}.bleu.matches_{n + 1}" for n in range(ORDER)]


def _generated(decode: str) -> str:
    return f"{decode}.bleu.generated"


def _sentence(pages: Sequence[str], words: dict[str, str], left_out: frozenset[str]) -> str:
    return " ".join(words.setdefault(page, str(len(words))) for page in pages if page not in left_out)
