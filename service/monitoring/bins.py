"""A vocabulary in twenty bins: fine enough to see a shift, few enough to tell it from chance."""

from __future__ import annotations

from collections.abc import Sequence

from browsing.traffic import VisitPages
from browsing.vocabulary import Vocabulary

BINS = 20


class PageBins:
    """The reference's pages, the likeliest first, in at most `BINS` bins of about equal share (a page of more than that
    has one to itself), then one bin for the vocabulary's other pages and one for unknown pages.

    `expected`: each bin's share of training's newest visits.
    """

    def __init__(self, reference: VisitPages, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._bins: dict[str, int] = {}
        self.expected: list[float] = []
        enough = sum(reference.pages.values()) / BINS
        for page, share in sorted(reference.pages.items(), key=lambda item: (-item[1], item[0])):
            if not self.expected or (self.expected[-1] >= enough * (1 - 1e-9) and len(self.expected) < BINS):
                self.expected.append(0.0)
            self.expected[-1] += share
            self._bins[page] = len(self.expected) - 1
        self._others = len(self.expected)
        rest = max(1.0 - sum(self.expected) - reference.unknown, 0.0)
        self.expected += [rest if rest > 1e-9 else 0.0, reference.unknown]

    @property
    def unknown(self) -> int:
        """The bin of unknown pages."""
        return self._others + 1

    def views(self, visit: Sequence[str]) -> dict[int, int]:
        """How many of the visit's page views are in which bin."""
        found: dict[int, int] = {}
        for page in visit:
            place = self._bins.get(page)
            if place is None:
                place = self._others + (page not in self._vocabulary)
            found[place] = found.get(place, 0) + 1
        return found
