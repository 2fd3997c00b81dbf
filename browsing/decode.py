"""Decode: from sampled next sessions to the one that is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Pages = tuple[str, ...]


def iou(a: Sequence[str], b: Sequence[str]) -> float:
    """Intersection over union of the distinct pages; 0 where either is empty (an empty answer earns nothing)."""
    left, right = set(a), set(b)
    if not left or not right:
        return 0.0
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def consensus(samples: Sequence[Pages], greedy: Pages, last: Pages) -> Pages:
    """The candidate with the highest expected IoU under the samples: the minimum-Bayes-risk answer for that metric.

    Candidates are the distinct samples, the greedy path and the visitor's last session. The samples alone are poor
    candidates: where behaviour is diverse each of them holds pages that few others share, while the greedy path holds
    the likely ones, and visitors repeat themselves.

    Page order does not count in the IoU, so candidates often tie. A tie goes to the one drawn most often as it stands,
    then to the greedy path, then to the earliest sample, then to the last session. `samples` are pages without special
    tokens, and may be empty sessions.
    """
    drawn = Counter(samples)
    candidates = list(dict.fromkeys((greedy, *samples, last)))

    def merit(candidate: Pages) -> tuple[float, int]:
        # Rounded: sums of equal fractions in another order are a tie too.
        return round(sum(n * iou(candidate, sample) for sample, n in drawn.items()), 9), drawn[candidate]

    return max(candidates, key=merit)  # the first of equals
