"""What the clusters are like, read off their training users: profiles, typical pages, the prior, the reference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from browsing.bundle import ClusterInfo, Prior, PriorPage, Reference
from browsing.profiles import ClusterProfile, Journey, OutcomeRate, PageProfile, Profiles, SessionLength, Visits
from browsing.vocabulary import Vocabulary
from training.behaviour import Visitor, repeated, visitors
from training.dataset import Sample
from training.journeys import PERSONAL_PAGES
from training.naming import names_of, strong_behaviours, table_of

TYPICAL = 6
PROFILE_PAGES = 8
BEHAVIOURS = 4
REFERENCE_PAGES = 200
PRIOR_PAGES = 100
CANDIDATES = 64
"""Most frequent first sessions among which the prior's journey is chosen."""
JUDGES = 5_000
"""First sessions that the candidates are compared with."""

Session = tuple[str, ...]


def profiles_of(
    samples: Sequence[Sample],
    own: NDArray[np.int64],
    vocabulary: Vocabulary,
    outcomes: Mapping[str, Sequence[str]],
    journeys: Sequence[tuple[Journey, ...]],
    min_users: int = 5,
) -> Profiles:
    """What each cluster is like. `own` [N]: the samples' clusters; `journeys`: the generated ones, per cluster.

    A page is shown of a cluster, and names it, only if at least `min_users` of the cluster's users saw it.
    """
    clusters = len(journeys)
    groups = visitors(samples, own, clusters)
    [everybody] = visitors(samples, np.zeros(len(samples), np.int64), 1)
    base, base_sessions = _holding(everybody, vocabulary), sum(len(v.sessions) for v in everybody)
    tables = [table_of(group, outcomes) for group in groups]
    names = names_of(groups, tables, vocabulary.pages, outcomes, min_users)
    told = strong_behaviours(tables)
    infos = []
    for k, group in enumerate(groups):
        pages = _pages(group, base, base_sessions, vocabulary, _widely_seen(group, min_users))
        infos.append(
            ClusterProfile(
                id=k,
                built_name=names[k],
                share=float((own == k).mean()) if len(own) else 0.0,
                visits=_visits(group),
                typical=tuple(sorted(pages, key=lambda p: (-p.share, p.page))[:PROFILE_PAGES]),
                distinctive=tuple(
                    p for p in sorted(pages, key=lambda p: (-p.lift, -p.share, p.page))[:PROFILE_PAGES] if p.lift > 1
                ),
                behaviours=tuple(told[k][:BEHAVIOURS]),
                outcomes={
                    name: OutcomeRate(rate=_rate(group, reached), everybody=_rate(everybody, reached))
                    for name, reached in outcomes.items()
                },
                journeys=journeys[k],
            )
        )
    return Profiles(min_users=min_users, everybody=_visits(everybody), clusters=tuple(infos))


def clusters_of(
    profiles: Profiles,
    samples: Sequence[Sample],
    own: NDArray[np.int64],
    vocabulary: Vocabulary,
    outcomes: Mapping[str, Sequence[str]],
) -> tuple[ClusterInfo, ...]:
    """Share, name and typical pages of each cluster, for the manifest. `own` [N]: the samples' clusters; the outcomes'
    pages are nobody's typical ones, since every kind of visitor may reach them, and neither are those that fewer of the
    cluster's users saw than the profiles ask for."""
    views = _views(samples, own, len(profiles.clusters), vocabulary)
    everybody: Counter[str] = sum(views, Counter())
    shown = shown_pages(samples, own, len(profiles.clusters), profiles.min_users)
    common = frozenset(page for pages in outcomes.values() for page in pages)
    typical = [
        [page for page in _distinctive(seen, everybody) if page in allowed - common]
        for seen, allowed in zip(views, shown, strict=True)
    ]
    return tuple(
        ClusterInfo(
            id=profile.id,
            name=profile.built_name,
            share=profile.share,
            typical_pages=tuple(typical[profile.id][:TYPICAL]),
        )
        for profile in profiles.clusters
    )


def shown_pages(
    samples: Sequence[Sample], own: NDArray[np.int64], clusters: int, min_users: int
) -> list[frozenset[str]]:
    """Per cluster, the pages that at least `min_users` of its users saw: no other page may be shown of it."""
    return [_widely_seen(group, min_users) for group in visitors(samples, own, clusters)]


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


def prior_of(
    samples: Sequence[Sample], vocabulary: Vocabulary, outcomes: Mapping[str, Sequence[str]], min_users: int = 5
) -> Prior:
    """The answer for a visitor without history: what the training users' first known sessions were.

    Every user counts once, so that clusters weigh in by their share. The journey is the frequent first session with
    the highest mean intersection over union with all of them; unless it is too short to be somebody's own, at least
    `min_users` users must have begun with it.
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
    return Prior(next_session=_journey(firsts, min_users), pages=pages, outcomes=rates, sessions=len(firsts))


def _journey(firsts: Sequence[Session], min_users: int) -> Session:
    begun = Counter(session for session in firsts if session)
    nobodys = {s: n for s, n in begun.items() if n >= min_users or len(s) < PERSONAL_PAGES}
    frequent = _top(Counter(nobodys), CANDIDATES)
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


def _visits(group: Sequence[Visitor]) -> Visits:
    lengths = np.array([len(session) for visitor in group for session in visitor.sessions], np.float64)
    quartiles = np.quantile(lengths, (0.25, 0.5, 0.75)).tolist() if len(lengths) else [0.0] * 3
    later = [(repeated(v), sum(map(len, v.sessions[1:]))) for v in group]
    views = sum(count for _, count in later)
    return Visits(
        users=len(group),
        sessions=len(lengths),
        length=SessionLength(
            mean=float(lengths.mean()) if len(lengths) else 0.0,
            lower_quartile=quartiles[0],
            median=quartiles[1],
            upper_quartile=quartiles[2],
        ),
        sessions_per_user=len(lengths) / max(len(group), 1),
        repeated=min(sum(share * count for share, count in later if count) / views, 1.0) if views else 0.0,
    )


def _holding(group: Sequence[Visitor], vocabulary: Vocabulary) -> Counter[str]:
    """In how many of the group's sessions each page is."""
    return Counter(page for v in group for session in v.sessions for page in set(session) if page in vocabulary)


def _widely_seen(group: Sequence[Visitor], min_users: int) -> frozenset[str]:
    """The pages that at least `min_users` of the group saw."""
    users = Counter(page for v in group for page in {p for session in v.sessions for p in session})
    return frozenset(page for page, count in users.items() if count >= min_users)


def _pages(
    group: Sequence[Visitor], base: Counter[str], base_sessions: int, vocabulary: Vocabulary, shown: frozenset[str]
) -> list[PageProfile]:
    holding = _holding(group, vocabulary)
    total = sum(len(v.sessions) for v in group)
    return [
        PageProfile(page=page, share=count / total, lift=(count / total) / (base[page] / base_sessions))
        for page, count in holding.items()
        if page in shown
    ]


def _rate(group: Sequence[Visitor], pages: Sequence[str]) -> float:
    """Share of the next sessions that hold one of the pages."""
    targets = [target for visitor in group for target in visitor.targets]
    return sum(not set(pages).isdisjoint(target) for target in targets) / max(len(targets), 1)
