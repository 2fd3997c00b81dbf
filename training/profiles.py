"""What the clusters are like, read off their training users: names, typical pages, the prior, the reference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from browsing.bundle import ClusterInfo, Prior, PriorPage, Reference
from browsing.encoder import read
from browsing.vocabulary import Vocabulary
from training.dataset import Sample

NAME_LENGTH = 40
TYPICAL = 6
REFERENCE_PAGES = 200
PRIOR_PAGES = 100
CANDIDATES = 64
"""Most frequent first sessions among which the prior's journey is chosen."""
JUDGES = 5_000
"""First sessions that the candidates are compared with."""

Session = tuple[str, ...]


def clusters_of(
    samples: Sequence[Sample], own: NDArray[np.int64], clusters: int, vocabulary: Vocabulary, outcomes: Sequence[str]
) -> tuple[ClusterInfo, ...]:
    """Share, name and typical pages of each cluster. `own` [N]: the samples' clusters; `outcomes`: pages that name
    nothing, since every kind of visitor may reach them."""
    views = _views(samples, own, clusters, vocabulary)
    everybody: Counter[str] = sum(views, Counter())
    names: list[str] = []
    infos = []
    for k in range(clusters):
        typical = [p for p in _distinctive(views[k], everybody) if p not in outcomes][:TYPICAL]
        name = "all visitors" if clusters == 1 else _name(typical, k)
        names.append(_unique(name, names))
        share = float((own == k).mean()) if len(own) else 0.0
        infos.append(ClusterInfo(id=k, name=names[-1], share=share, typical_pages=tuple(typical)))
    return tuple(infos)


def reference_of(
    samples: Sequence[Sample],
    own: NDArray[np.int64],
    clusters: int,
    vocabulary: Vocabulary,
    outcomes: Mapping[str, Sequence[str]],
) -> Reference:
    """Shares of users and of views per cluster, and of next sessions that hold each outcome."""
    views = _views(samples, own, clusters, vocabulary)
    pages = tuple(
        {page: count / max(sum(seen.values()), 1) for page, count in _top(seen, REFERENCE_PAGES)} for seen in views
    )
    return Reference(
        cluster_shares=tuple(float((own == k).mean()) for k in range(clusters)),
        pages=pages,
        outcome_rates={
            name: float(np.mean([not own_pages.isdisjoint(s.next_session) for s in samples]))
            for name, own_pages in ((name, frozenset(pages)) for name, pages in outcomes.items())
        },
    )


def prior_of(samples: Sequence[Sample], vocabulary: Vocabulary, outcomes: Mapping[str, Sequence[str]]) -> Prior:
    """The answer for a visitor without history: what the training users' first known sessions were.

    Every user counts once, so that clusters weigh in by their share. The journey is the frequent first session with
    the highest mean intersection over union with all of them.
    """
    oldest: dict[str, Sample] = {}
    for sample in samples:
        known = oldest.setdefault(sample.user_id, sample)
        if sample.next_started_at < known.next_started_at:
            oldest[sample.user_id] = sample
    firsts = [tuple(p for p in s.history[0] if p in vocabulary) for s in oldest.values() if s.history]
    reached = Counter(page for session in firsts for page in set(session))
    total = max(len(firsts), 1)
    pages = tuple(PriorPage(page=page, probability=count / total) for page, count in _top(reached, PRIOR_PAGES))
    rates = {
        name: sum(not set(own).isdisjoint(session) for session in firsts) / total for name, own in outcomes.items()
    }
    return Prior(next_session=_journey(firsts), pages=pages, outcomes=rates, sessions=len(firsts))


def _journey(firsts: Sequence[Session]) -> Session:
    frequent = _top(Counter(session for session in firsts if session), CANDIDATES)
    judges = [frozenset(session) for session in firsts[:JUDGES] if session]

    def agreement(session: Session) -> float:
        own = frozenset(session)
        return sum(len(own & other) / len(own | other) for other in judges)

    return max((session for session, _ in frequent), key=agreement, default=())


def _views(
    samples: Sequence[Sample], own: NDArray[np.int64], clusters: int, vocabulary: Vocabulary
) -> list[Counter[str]]:
    views: list[Counter[str]] = [Counter() for _ in range(clusters)]
    for sample, k in zip(samples, own.tolist(), strict=True):
        for session in (*sample.history, sample.next_session):
            views[k].update(page for page in session if page in vocabulary)
    return views


Item = TypeVar("Item", str, Session)


def _top(counts: Counter[Item], n: int) -> list[tuple[Item, int]]:
    """The `n` most frequent, in an order that depends on the counts alone."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]


def _distinctive(views: Counter[str], everybody: Counter[str]) -> list[str]:
    """Pages by how much they tell: their share of the cluster's views times the log of its lift over everybody's.

    Pages that the cluster views less than everybody does are left out; for a single cluster the likeliest come first.
    """
    total, all_views = max(sum(views.values()), 1), max(sum(everybody.values()), 1)

    def score(page: str) -> float:
        share = views[page] / total
        return share * math.log(share * all_views / everybody[page])

    telling = [page for page in views if score(page) >= 0]
    return sorted(telling, key=lambda page: (-score(page), -views[page], page))


def _name(typical: Sequence[str], k: int) -> str:
    """For example "bags, tote mini": the words of the most distinctive pages, each word once, as far as they fit."""
    parts: list[str] = []
    used: set[str] = set()
    for page in typical:
        words = [word for word in read([page]).split() if word not in used]
        if words and len(parts) < 2 and len(", ".join([*parts, " ".join(words)])) <= NAME_LENGTH - 4:
            parts.append(" ".join(words))
            used.update(words)
    return ", ".join(parts) or f"cluster {k}"


def _unique(name: str, taken: Sequence[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name} {number}"
    return candidate
