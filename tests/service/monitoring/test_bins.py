"""Twenty bins of a vocabulary."""

from __future__ import annotations

import pytest

from browsing.traffic import CONFIDENCE_EDGES, VisitPages, confidence_bin
from browsing.vocabulary import Vocabulary
from service.monitoring.bins import BINS, PageBins


def reference(pages: dict[str, float], unknown: float = 0.0) -> VisitPages:
    return VisitPages(users=100, pages=pages, unknown=unknown, unknown_views=unknown)


def test_few_pages_have_a_bin_each() -> None:
    words = Vocabulary(["/a", "/b", "/c"])
    bins = PageBins(reference({"/a": 0.2, "/b": 0.5}, 0.1), words)
    assert bins.expected == pytest.approx([0.5, 0.2, 0.2, 0.1]), "the likeliest, the next, the rest, the unknown"
    assert bins.views(["/b"]) == {0: 1}
    assert bins.views(["/a", "/b", "/c", "/d", "/e", "/a", "/a", "/a"]) == {0: 1, 1: 4, 2: 1, 3: 2}
    assert bins.unknown == 3


def test_many_pages_share_bins_of_about_equal_share() -> None:
    names = [f"/{i:03}" for i in range(400)]
    shares = dict.fromkeys(names, 0.9 / 400)
    bins = PageBins(reference(shares, 0.1), Vocabulary(names))
    assert len(bins.expected) == BINS + 2
    assert bins.expected[:BINS] == pytest.approx([0.9 / BINS] * BINS)
    assert bins.expected[BINS:] == pytest.approx([0, 0.1])


def test_a_page_of_a_large_share_stays_alone() -> None:
    names = [f"/{i:03}" for i in range(200)]
    shares = {name: 0.4 if i == 0 else 0.6 / 199 for i, name in enumerate(names)}
    bins = PageBins(reference(shares), Vocabulary(names))
    assert bins.expected[0] == 0.4
    assert len(bins.expected) <= BINS + 2
    assert sum(bins.expected) == pytest.approx(1)
    assert max(bins.expected[1:]) < 0.06


def test_a_name_of_a_special_token_is_an_unknown_page() -> None:
    bins = PageBins(reference({"/a": 1.0}), Vocabulary(["/a"]))
    assert bins.views(["[EOS]"]) == {2: 1} == {bins.unknown: 1}


def test_an_edge_belongs_to_the_bin_below() -> None:
    assert [confidence_bin(p) for p in (0.0, 0.2, 0.2000001, 0.99, 0.995, 1.0, 1.0000001)] == [0, 0, 1, 9, 10, 10, 10]
    assert confidence_bin(1.0) == len(CONFIDENCE_EDGES) - 1
