"""Co-visitation and VMIS-kNN on logs small enough to count by hand."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from browsing.vocabulary import Vocabulary
from tests.training.baselines.people import MONDAY, OUTCOMES, VOCABULARY, simulated, visitor
from training.baselines.covisit import VARIANTS as COVISIT_VARIANTS
from training.baselines.covisit import Covisit, covisit
from training.baselines.covisit import Variant as CovisitVariant
from training.baselines.journeys import journeys
from training.baselines.vmis_knn import VARIANTS, Variant, VmisKnn

PAGES = Vocabulary(["a", "b", "c", "d", "e"])
A, B, C, D, E = range(4, 9)


def covisit_scores(variant: CovisitVariant, history: list[list[str]]) -> dict[str, float]:
    train = [
        visitor("1", [["a", "b"], ["c"]], ["a"]),
        visitor("2", [["a"]], ["c", "c", "d"]),
    ]
    ranker = Covisit(journeys(train), PAGES)
    ranked = ranker.rank([tuple(map(tuple, history))], COVISIT_VARIANTS.index(variant))
    return {PAGES.tokens[i]: float(s) for i, s in zip(ranked.ids[0], ranked.scores[0], strict=True) if s > 0}


def test_covisit_counts_what_follows() -> None:
    """a is in three of the five sessions; c follows it twice, d once. c is in two, and a follows it once."""
    last = CovisitVariant("next session", "share", 0.0)
    assert covisit_scores(last, [["c"], ["a", "a", "x"]]) == pytest.approx({"c": 2 / 3, "d": 1 / 3})
    assert covisit_scores(last, [["c"], ["x"]]) == pytest.approx({"a": 1 / 2})
    fading = CovisitVariant("next session", "share", 0.5)
    assert covisit_scores(fading, [["c"], ["a"]]) == pytest.approx({"c": 4 / 9, "d": 2 / 9, "a": 1 / 6})
    cosine = CovisitVariant("next session", "cosine", 0.0)
    assert covisit_scores(cosine, [["a"]]) == pytest.approx({"c": 2 / np.sqrt(6), "d": 1 / np.sqrt(3)})
    both = CovisitVariant("both sessions", "share", 0.0)
    assert covisit_scores(both, [["a"]]) == pytest.approx({"c": 2 / 3, "d": 1 / 3, "b": 1 / 3})


def test_covisit_tells_its_choice() -> None:
    baseline = covisit()
    baseline.fit(simulated(100, 0), simulated(40, 1), VOCABULARY, OUTCOMES, 0)
    assert baseline.choice.startswith("pages of the ")
    assert "n = " in baseline.choice


def index(recent: int = 1000) -> VmisKnn:
    """Six sessions of three users; from the most recent one on: [e] [a c] [b d] [a b] [c] [d]."""
    train = [
        visitor("1", [["a", "b"]], ["a", "c"], MONDAY + timedelta(days=10), days=4),
        visitor("2", [["b", "d"]], ["e"], MONDAY + timedelta(days=12), days=7),
        visitor("3", [["d"]], ["c"], MONDAY, days=1),
    ]
    return VmisKnn(journeys(train), PAGES, recent)


def test_the_neighbours_are_the_recent_sessions_most_alike() -> None:
    """The evolving session is d a b, so d weighs 1/3, a 2/3, b 3/3. r: [a b] 5/3, [b d] 4/3, [a c] 2/3, [d] 1/3."""
    own = Variant("last session", "own session", False, 100)
    numbers, weights, total = index().neighbours([B, A, D], own)
    assert numbers.tolist() == [3, 2, 1, 5]
    # The newest shared item is b (place 1), b, a (place 2), d (place 3).
    assert weights == pytest.approx([5 / 3 * 0.9, 4 / 3 * 0.9, 2 / 3 * 0.8, 1 / 3 * 0.7])
    assert total == pytest.approx(4)
    two = Variant("last session", "own session", False, 2)
    assert index().neighbours([B, A, D], two)[0].tolist() == [3, 2]
    assert index(recent=2).neighbours([B, A, D], own)[0].tolist() == [2, 1]
    # [a c] and [b d] are their users' last sessions: [e] and [a c] have no next one, the others have.
    follow = Variant("last session", "next session", False, 100)
    assert index().neighbours([B, A, D], follow)[0].tolist() == [3, 2, 5]


@pytest.mark.parametrize("idf", [False, True])
def test_vmis_scores_by_hand(idf: bool) -> None:
    history = (("e",), ("a", "d", "a", "b", "x"))
    first, second, third, fourth = 5 / 3 * 0.9 / 4, 4 / 3 * 0.9 / 4, 2 / 3 * 0.8 / 4, 1 / 3 * 0.7 / 4
    raw = {
        "own session": {"a": first + third, "b": first + second, "c": third, "d": second + fourth},
        "next session": {"a": 1.5 / (10 / 3), "c": (1.5 + 0.7 / 3) / (10 / 3), "e": 1.2 / (10 / 3)},
        "both sessions": {
            "a": first + third,
            "b": first + second,
            "c": first + third + fourth,
            "d": second + fourth,
            "e": second,
        },
    }
    held = {"a": 2, "b": 2, "c": 2, "d": 2, "e": 1}
    for votes, scores in raw.items():
        place = next(i for i, v in enumerate(VARIANTS) if (v.evolving, v.votes, v.idf) == ("last session", votes, idf))
        ranked = index().rank([history], place)
        found = {PAGES.tokens[i]: s for i, s in zip(ranked.ids[0], ranked.scores[0], strict=True) if s > 0}
        assert found == pytest.approx({p: s * (np.log(6 / held[p]) if idf else 1) for p, s in scores.items()})
        assert ranked.scores[0].tolist() == sorted(ranked.scores[0], reverse=True)


def test_what_the_evolving_session_is() -> None:
    ranker = index()
    history = (("a", "b", "c"), ("d", "x", "d"), ("x",))
    assert ranker.evolving(history, "last session") == [D]
    assert ranker.evolving(history, "newest pages") == [D, C, B, A]
    assert ranker.evolving((("x",),), "newest pages") == []
    assert ranker.neighbours([], VARIANTS[0])[0].tolist() == []
