"""Co-visitation: the pages that other visitors go to together with the visitor's pages, or in the session after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from scipy.sparse import csr_matrix, diags_array

from browsing.vocabulary import Vocabulary
from training.baselines.journeys import Journey, indicators, known_ids
from training.baselines.port import Advance, Floats, ignore
from training.baselines.ranking import History, Popular, Ranked, RankingBaseline

Counted = Literal["next session", "both sessions"]
Norm = Literal["share", "cosine"]
BATCH = 500
"""Histories that are scored at once."""


@dataclass(frozen=True, slots=True)
class Variant:
    """`counted`: pairs of pages of consecutive sessions alone, or those of one session as well. `norm`: counts divided
    by the sessions with the visitor's page, or by the root of both pages'. `fade`: an older session's pages weigh this
    much less than those of the session after it; 0: only the last session counts."""

    counted: Counted
    norm: Norm
    fade: float


FADES = (0.0, 0.5, 0.8, 1.0)
VARIANTS = tuple(
    Variant(counted, norm, fade) for counted in get_args(Counted) for norm in get_args(Norm) for fade in FADES
)


class Covisit:
    """score(q) = sum_p w(p) C(p, q) / norm, over the history's pages p with weights w that sum to one.

    C(p, q) counts pairs of consecutive sessions of training users of which the first holds p and the second q (p = q
    included: visitors come back), with "both sessions" also sessions that hold p and another page q.
    """

    variants = len(VARIANTS)

    def __init__(self, users: Sequence[Journey], vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._popular = Popular(users, vocabulary)
        pairs = [pair for user in users for pair in pairwise(user.sessions)]
        first = indicators([before for before, _ in pairs], vocabulary)
        second = indicators([after for _, after in pairs], vocabulary)
        every = indicators([session for user in users for session in user.sessions], vocabulary)
        follow = (first.T @ second).tocsr()
        within = (every.T @ every).tocsr()
        within = within - diags_array(within.diagonal(), format="csr")
        self._counts: dict[Counted, csr_matrix] = {"next session": follow, "both sessions": follow + within}
        held = np.maximum(np.asarray(every.sum(0)).ravel(), 1.0)
        ones = np.ones_like(held)
        self._divisors: dict[Norm, tuple[Floats, Floats]] = {
            "share": (held, ones),
            "cosine": (np.sqrt(held), np.sqrt(held)),
        }

    def describe(self, variant: int) -> str:
        way = VARIANTS[variant]
        return f"pages of the {way.counted}, {way.norm}, fade {way.fade:g}"

    def rank(self, histories: Sequence[History], variant: int, advance: Advance = ignore) -> Ranked:
        way = VARIANTS[variant]
        counts = self._counts[way.counted]
        visitor, other = self._divisors[way.norm]
        ids, scores = [], []
        for start in range(0, len(histories), BATCH):
            batch = histories[start : start + BATCH]
            weights = self._weights(batch, way.fade)
            weights.data /= visitor[weights.indices]
            found = (weights @ counts).tocsr()
            found.data /= other[found.indices]
            for row in range(len(batch)):
                own = slice(found.indptr[row], found.indptr[row + 1])
                best = self._popular.best(found.indices[own].astype(np.int64), found.data[own])
                ids.append(best[0])
                scores.append(best[1])
            advance(len(batch))
        return Ranked(np.stack(ids), np.stack(scores))

    def _weights(self, histories: Sequence[History], fade: float) -> csr_matrix:
        """float64 [n, V]: each history's pages, weighted by their newest session, rows summing to one."""
        columns: list[int] = []
        values: list[float] = []
        places = [0]
        for history in histories:
            own: dict[int, float] = {}
            # An age only counts sessions with a known page: a session of unknown ones says nothing.
            known = [ids for session in reversed(history) if (ids := known_ids(session, self._vocabulary))]
            for age, session in enumerate(known):
                weight = fade**age
                for page in session if weight > 0 else ():
                    own.setdefault(page, weight)
            total = sum(own.values())
            columns += own
            values += [weight / total for weight in own.values()]
            places.append(len(columns))
        shape = (len(histories), len(self._vocabulary))
        return csr_matrix((np.array(values), np.array(columns, np.int64), np.array(places)), shape=shape)


def covisit() -> RankingBaseline:
    """The baseline; the variant and n are chosen on selection users."""
    return RankingBaseline("covisit", Covisit)
