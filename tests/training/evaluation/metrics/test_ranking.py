"""Ranking metrics by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from browsing.vocabulary import Vocabulary
from training.evaluation.metrics.ranking import NAMES, ranking_scores
from training.evaluation.result import RankingMetrics

PAGES = [f"/p{i}" for i in range(30)]
WORDS = Vocabulary(PAGES)


def scores(ranked: list[str], actual: list[str]) -> dict[str, float]:
    return dict(zip(NAMES, ranking_scores(ranked, actual, WORDS), strict=True))


def test_names_are_the_documents_fields() -> None:
    assert tuple(RankingMetrics.model_fields) == NAMES


def test_by_hand() -> None:
    # hits at places 2, 7 and 12 of four distinct actual pages, one of which the vocabulary lacks
    ranked = PAGES[:15]
    own = scores(ranked, [PAGES[1], PAGES[6], PAGES[1], PAGES[11], "/rare"])
    gain = [1 / math.log2(place + 1) for place in range(1, 21)]
    ideal = sum(gain[:4])
    assert own == pytest.approx(
        {
            "recall_5": 1 / 4,
            "recall_10": 2 / 4,
            "recall_20": 3 / 4,
            "ndcg_5": gain[1] / ideal,
            "ndcg_10": (gain[1] + gain[6]) / ideal,
            "ndcg_20": (gain[1] + gain[6] + gain[11]) / ideal,
            "mrr": 1 / 2,
        }
    )


def test_nothing_found_is_zero_and_all_in_front_is_one() -> None:
    assert set(scores([], [PAGES[0]]).values()) == {0.0}
    assert set(scores(PAGES[5:25], [PAGES[0]]).values()) == {0.0}
    assert set(scores(PAGES[:20], PAGES[:3]).values()) == {1.0}


def test_a_page_outside_the_vocabulary_never_matches() -> None:
    assert set(scores(["/rare", "[UNK]"], ["/rare", "[UNK]"]).values()) == {0.0}


def test_what_comes_after_place_twenty_is_not_read() -> None:
    assert scores(PAGES[:21], [PAGES[20]])["mrr"] == 0.0
    assert scores(PAGES[:20], [PAGES[19]])["mrr"] == 1 / 20


def test_more_actual_pages_than_places_can_still_be_ideal() -> None:
    own = scores(PAGES[:20], PAGES)
    assert (own["ndcg_5"], own["ndcg_20"]) == pytest.approx((1.0, 1.0))
    assert own["recall_20"] == pytest.approx(20 / 30)


def test_a_session_without_a_page_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="without a page"):
        ranking_scores(PAGES, ["[EOS]"], WORDS)


@given(st.permutations(PAGES), st.sets(st.sampled_from(PAGES), min_size=1, max_size=8))
def test_ndcg_agrees_with_scikit_learn(ranked: list[str], actual: set[str]) -> None:
    own = scores(ranked, sorted(actual))
    relevant = np.array([[page in actual for page in ranked]], float)
    falling = -np.arange(len(ranked), dtype=float)[None]
    for k in (5, 10, 20):
        assert own[f"ndcg_{k}"] == pytest.approx(ndcg_score(relevant, falling, k=k))
