"""VMIS-kNN (Kersbergen et al., "Serenade", SIGMOD 2022): pages of the sessions most like the visitor's.

The method completes a session that goes on, from past sessions that share its items. Here the session is over and the
NEXT one is asked for, so three things are open, and are chosen on selection users together with n:
- which pages are the evolving session: the visitor's last session, or as many newest pages over all sessions as the
  weights below can see;
- which pages a neighbour votes for: those of its own session, as in the paper, those of the session that its user came
  with next, or both. A past session votes only where there is one;
- whether votes are weighted by inverse document frequency, as in the paper, or not: it keeps away from pages that
  everybody views, and they are a part of most next sessions.
Pages already viewed may be answered, since visitors come back to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.sparse import csr_matrix

from browsing.vocabulary import Vocabulary
from training.baselines.journeys import Journey, Session, indicators, known_ids
from training.baselines.port import Advance, Floats, Ints, ignore
from training.baselines.ranking import History, Popular, Ranked, RankingBaseline

RECENT = 1000
"""m: how many of the most recent sessions that share an item are compared."""
REACH = 9
"""Newest items that the paper's match weight 1 - place / 10 can see."""

Evolving = Literal["last session", "newest pages"]
Votes = Literal["own session", "next session", "both sessions"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way: see the module. `neighbours`: k."""

    evolving: Evolving
    votes: Votes
    idf: bool
    neighbours: int


VARIANTS = tuple(
    Variant(evolving, votes, idf, neighbours)
    for evolving in get_args(Evolving)
    for votes in get_args(Votes)
    for idf in (True, False)
    for neighbours in (100, 500)
)


class VmisKnn:
    """An inverted index over the training users' sessions, numbered from the most recent one.

    For an evolving session of items s_1 ... s_L, the newest last, a past session x has the similarity
    r(x) = sum over shared items of i / L. Among the m most recent sessions that share an item the k most similar are
    neighbours, the more recent first among equals. A page scores

        sum over neighbours that vote for it of  r(x) (1 - p(x) / 10) log(H / h)  /  sum over neighbours of r(x)

    with p(x) the place, counted from the newest as 1, of the newest shared item (from 10 on the weight is 0), H the
    number of sessions and h of those that hold the page. The paper has no denominator; it changes no ranking, but makes
    scores comparable between visitors.
    """

    variants = len(VARIANTS)

    def __init__(self, users: Sequence[Journey], vocabulary: Vocabulary, recent: int = RECENT) -> None:
        """`recent`: m."""
        self._vocabulary = vocabulary
        self._popular = Popular(users, vocabulary)
        self._recent = recent
        sessions = [(at, u, j) for u, user in enumerate(users) for j, at in enumerate(user.started_at)]
        sessions.sort(key=lambda session: session[0], reverse=True)
        nothing: Session = ()
        own = [users[u].sessions[j] for _, u, j in sessions]
        after = [users[u].sessions[j + 1] if j + 1 < len(users[u].sessions) else nothing for _, u, j in sessions]
        self._own, self._after = indicators(own, vocabulary), indicators(after, vocabulary)
        self._votes: dict[Votes, csr_matrix] = {
            "own session": self._own,
            "next session": self._after,
            "both sessions": (self._own + self._after).sign(),
        }
        held = np.asarray(self._own.sum(0)).ravel()
        self._idf: Floats = np.log(len(sessions) / np.maximum(held, 1.0))
        self._followed = np.diff(self._after.indptr) > 0
        self._posts: dict[bool, csr_matrix] = {}
        for followed in (False, True):
            rows = self._own.multiply(self._followed[:, None]).tocsr() if followed else self._own
            rows.eliminate_zeros()
            self._posts[followed] = rows.tocsc()
            self._posts[followed].sort_indices()

    def describe(self, variant: int) -> str:
        way = VARIANTS[variant]
        idf = "with" if way.idf else "without"
        return f"{way.evolving}, votes of the {way.votes}, {idf} idf, k = {way.neighbours}, m = {self._recent}"

    def rank(self, histories: Sequence[History], variant: int, advance: Advance = ignore) -> Ranked:
        way = VARIANTS[variant]
        votes = self._votes[way.votes]
        ids, scores = [], []
        for history in histories:
            found, weights, total = self.neighbours(self.evolving(history, way.evolving), way)
            rows = votes[found]
            own = np.repeat(weights, np.diff(rows.indptr))
            sums: Floats = np.bincount(rows.indices, own, minlength=len(self._vocabulary)).astype(np.float64)
            if way.idf:
                sums *= self._idf
            pages = np.flatnonzero(sums > 0)
            best = self._popular.best(pages, sums[pages] / total if total else sums[pages])
            ids.append(best[0])
            scores.append(best[1])
            advance(1)
        return Ranked(np.stack(ids), np.stack(scores))

    def evolving(self, history: History, way: Evolving) -> list[int]:
        """Distinct ids, the newest FIRST: of the last session that has any, or the `REACH` newest of all."""
        found: dict[int, None] = {}
        for session in reversed(history):
            found |= dict.fromkeys(known_ids(reversed(session), self._vocabulary))
            if found and (way == "last session" or len(found) >= REACH):
                break
        return list(found) if way == "last session" else list(found)[:REACH]

    def neighbours(self, items: Sequence[int], way: Variant) -> tuple[Ints, Floats, float]:
        """Numbers of the neighbours, the most similar first, r(x) times the match weight of each, and the sum of r."""
        posts = self._posts[way.votes == "next session"]
        lists = [posts.indices[posts.indptr[i] : posts.indptr[i + 1]][: self._recent] for i in items]
        sizes = [len(own) for own in lists]
        if not sum(sizes):
            return np.zeros(0, np.int64), np.zeros(0), 0.0
        place = np.repeat(np.arange(1, len(items) + 1), sizes)
        # Numbers rise with age, so the first m distinct ones are the most recent; `first` is a session's newest item.
        numbers, first, which = np.unique(np.concatenate(lists), return_index=True, return_inverse=True)
        similarity = np.bincount(which, (len(items) + 1 - place) / len(items))[: self._recent]
        order = np.argsort(-np.round(similarity, 9), kind="stable")[: way.neighbours]
        match = np.maximum(1 - place[first[order]] / 10, 0.0)
        return numbers[order].astype(np.int64), similarity[order] * match, float(similarity[order].sum())


def vmis_knn() -> RankingBaseline:
    """The baseline; the variant, k and n are chosen on selection users."""
    return RankingBaseline("vmis_knn", VmisKnn)
