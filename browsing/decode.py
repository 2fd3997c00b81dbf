"""Decode: from sampled next sessions to the one that is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

Pages = tuple[str, ...]


def iou(a: Sequence[str], b: Sequence[str]) -> float:
    """Intersection over union of the distinct pages; 0 where either is empty (an empty answer earns nothing)."""
    left, right = set(a), set(b)
    if not left or not right:
        return 0.0
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def expected_iou(pages: Sequence[str], probabilities: Mapping[str, float], total: float | None = None) -> float:
    """E|S and A| / E|S or A| for the distinct pages S and the next session's A, from each page's chance of a visit.

    The ratio of expectations stands in for the expectation of the ratio: it needs the page probabilities alone, whose
    estimates use every step of every path, where an IoU counted over a few sampled sessions is mostly their noise.

    `total`: the sum of the probabilities, for whoever asks about many sessions.
    """
    own = set(pages)
    shared = sum(probabilities.get(page, 0.0) for page in own)
    union = len(own) + (sum(probabilities.values()) if total is None else total) - shared
    return shared / union if union else 0.0


def consensus(samples: Sequence[Pages], greedy: Pages, last: Pages, probabilities: Mapping[str, float]) -> Pages:
    """The candidate with the highest expected IoU.

    Candidates are the distinct samples, the greedy path, the visitor's last session, and the n likeliest pages for
    every n, in the order in which the samples visit them. `probabilities`: every page's chance of a visit (pages that
    are missing have none). `samples` are pages without special tokens, and may be empty sessions.

    Page order does not count in the IoU, so candidates may tie. A tie goes to the one drawn most often as it stands,
    then to the greedy path, then to the earliest sample, then to the last session.
    """
    drawn = Counter(samples)
    total = sum(probabilities.values())
    most = max((len(set(pages)) for pages in (greedy, *samples, last)), default=0)
    candidates = list(dict.fromkeys((greedy, *samples, last, *likeliest(samples, probabilities, most))))

    def merit(candidate: Pages) -> tuple[float, int]:
        # Rounded: sums of equal fractions in another order are a tie too.
        return round(expected_iou(candidate, probabilities, total), 9), drawn[candidate]

    return max(candidates, key=merit)  # the first of equals


def likeliest(samples: Sequence[Pages], probabilities: Mapping[str, float], most: int) -> list[Pages]:
    """For n from 1 to `most`, the n pages with the highest probability, each in the samples' order: by the mean place
    of their first visits, as a share of the session. Pages on no sample come last, the likelier first."""
    places: dict[str, list[float]] = {}
    for pages in samples:
        for place, page in enumerate(pages):
            if page not in pages[:place]:
                places.setdefault(page, []).append(place / len(pages))
    order = {page: sum(own) / len(own) for page, own in places.items()}
    ranked = sorted((p for p, chance in probabilities.items() if chance > 0), key=lambda p: (-probabilities[p], p))
    rank = {page: place for place, page in enumerate(ranked[:most])}
    ordered = sorted(rank, key=lambda p: (order.get(p, 1.0), rank[p]))
    return [tuple(page for page in ordered if rank[page] < n) for n in range(1, len(rank) + 1)]
