"""Every metric against answers worked out by hand, and laws that hold for any sessions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from browsing.vocabulary import Vocabulary
from training.evaluation.metrics import (
    Confusion,
    PageScores,
    auc,
    brier,
    log_loss,
    page_scores,
    variance,
)

WORDS = Vocabulary(("/", "/a", "/b", "/c", "/cart"))
SITE = frozenset((*WORDS.pages, "/rare"))


def scores(generated: list[str], actual: list[str], seen: tuple[str, ...] = ()) -> PageScores:
    return page_scores(generated, actual, frozenset(seen), WORDS, SITE)


def test_page_metrics_by_hand() -> None:
    # generated {/, /a, /b}, actual {/a, /b, /c, /cart}: 2 in common of 3 and of 4, 5 in the union; "/" is not new
    result = scores(["/", "/a", "/b"], ["/a", "/b", "/c", "/cart"], seen=("/", "/c"))
    assert result == PageScores(hr=1.0, ioa=2 / 4, iop=2 / 3, iou=2 / 5, new_p=2 / 3, val_p=1.0)


def test_repeated_pages_count_once() -> None:
    assert scores(["/a", "/b", "/a", "/a"], ["/b", "/b", "/c"]) == scores(["/a", "/b"], ["/c", "/b"])


def test_empty_generation_scores_zero() -> None:
    assert scores([], ["/a"]) == PageScores(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_special_tokens_are_no_pages() -> None:
    marked = scores(["[BOS]", "/a", "[UNK]", "[EOS]"], ["[BOS]", "/a", "[EOS]", "[PAD]"])
    assert marked == scores(["/a"], ["/a"]) == PageScores(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert scores(["[UNK]"], ["[UNK]"]).hr == 0.0


def test_actual_page_outside_the_vocabulary_stays_in_the_denominator() -> None:
    assert scores(["/a"], ["/a", "/rare"]) == PageScores(1.0, 0.5, 1.0, 0.5, 1.0, 1.0)
    assert scores(["/a"], ["/a", "[UNK]"]) == scores(["/a"], ["/a", "/rare"])


def test_actual_page_outside_the_vocabulary_never_matches() -> None:
    # A baseline may name it; it is a real page of the site, yet no model over this vocabulary could have it right.
    assert scores(["/rare"], ["/rare"]) == PageScores(0.0, 0.0, 0.0, 0.0, 1.0, 1.0)


def test_invented_pages_are_not_valid_and_not_new() -> None:
    result = scores(["/a", "/b", "/invented", "/also"], ["/c"], seen=("/a",))
    assert result == PageScores(hr=0.0, ioa=0.0, iop=0.0, iou=0.0, new_p=1 / 2, val_p=2 / 4)
    assert scores(["/invented"], ["/c"]).new_p == 0.0


def test_a_session_without_a_page_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="without a page"):
        scores(["/a"], ["[BOS]", "[EOS]"])


pages = st.lists(st.sampled_from((*WORDS.pages, "/rare", "/invented", "[UNK]", "[EOS]")), max_size=8)


@given(pages, pages.map(lambda p: [*p, "/c"]), pages)
def test_laws_of_page_metrics(generated: list[str], actual: list[str], seen: list[str]) -> None:
    result = scores(generated, actual, tuple(seen))
    values = (result.hr, result.ioa, result.iop, result.iou, result.new_p, result.val_p)
    assert all(0 <= value <= 1 for value in values)
    assert result.iou <= min(result.ioa, result.iop) <= max(result.ioa, result.iop) <= result.hr
    assert (result.hr == 1) == (result.iou > 0)
    assert result == scores(generated[::-1], actual + actual, tuple(seen))
    perfect = scores(actual, actual)
    assert (perfect.iou == 1) == ("/rare" not in actual and "[UNK]" not in actual and "/invented" not in actual)


def test_variance_is_the_populations() -> None:
    assert variance(np.array([1.0, 1.0, 1.0, 0.0])) == 0.75 * 0.25  # HR (1 - HR)
    assert variance(np.array([0.2, 0.4, 0.9])) == pytest.approx(((0.3) ** 2 + (0.1) ** 2 + (0.4) ** 2) / 3)
    assert variance(np.array([0.4])) == 0.0


def flags(text: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([c == "x" for c in text])


def test_outcome_metrics_by_hand() -> None:
    counts = Confusion.count(predicted=flags("xxxx......"), happened=flags("xx..xxx..."))
    assert (counts.hits, counts.false_alarms, counts.misses, counts.rejections) == (2, 2, 3, 3)
    assert (counts.predicted, counts.happened) == (4, 5)
    assert counts.accuracy == 5 / 10
    assert counts.precision == 2 / 4
    assert counts.recall == 2 / 5
    assert counts.f1 == pytest.approx(2 * 0.5 * 0.4 / (0.5 + 0.4))


def test_no_outcome_predicted_has_precision_zero() -> None:
    counts = Confusion.count(flags("....."), flags("x...."))
    assert (counts.accuracy, counts.recall, counts.precision, counts.f1, counts.predicted) == (0.8, 0.0, 0.0, 0.0, 0)


def test_no_outcome_happened_has_recall_zero() -> None:
    counts = Confusion.count(flags("x...."), flags("....."))
    assert (counts.accuracy, counts.recall, counts.precision, counts.f1, counts.happened) == (0.8, 0.0, 0.0, 0.0, 0)
    nothing = Confusion.count(flags(".."), flags(".."))
    assert (nothing.accuracy, nothing.recall, nothing.precision, nothing.f1) == (1.0, 0.0, 0.0, 0.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_laws_of_outcome_metrics(users: list[tuple[bool, bool]]) -> None:
    counts = Confusion.count(np.array([p for p, _ in users]), np.array([h for _, h in users]))
    assert counts.hits + counts.false_alarms + counts.misses + counts.rejections == len(users)
    assert counts.accuracy == pytest.approx(np.mean([p == h for p, h in users]))
    if counts.precision + counts.recall:
        assert counts.f1 == pytest.approx(2 * counts.precision * counts.recall / (counts.precision + counts.recall))
    else:
        assert counts.f1 == 0.0


def test_probability_metrics_by_hand() -> None:
    p, happened = np.array([0.9, 0.5, 0.2, 0.5]), flags("xx..")
    assert brier(p, happened) == pytest.approx((0.01 + 0.25 + 0.04 + 0.25) / 4)
    assert log_loss(p, happened) == pytest.approx(-(math.log(0.9) + 2 * math.log(0.5) + math.log(0.8)) / 4)
    # pairs (happened, did not): 0.9 > 0.2, 0.9 > 0.5, 0.5 > 0.2, 0.5 = 0.5
    assert auc(p, happened) == 3.5 / 4


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    assert log_loss(np.array([0.0]), flags("x")) == pytest.approx(-math.log(1e-9))
    assert log_loss(np.array([0.0, 1.0]), flags(".x")) == pytest.approx(0.0, abs=1e-8)


def test_auc_needs_both_kinds_of_users() -> None:
    assert auc(np.array([0.1, 0.7]), flags("..")) is None
    assert auc(np.array([0.1, 0.7]), flags("xx")) is None


@given(st.lists(st.tuples(st.integers(1, 19), st.booleans()), min_size=2).filter(lambda u: len({h for _, h in u}) == 2))
def test_probability_metrics_agree_with_scikit_learn(users: list[tuple[int, bool]]) -> None:
    p, happened = np.array([p / 20 for p, _ in users]), np.array([h for _, h in users])
    assert auc(p, happened) == pytest.approx(roc_auc_score(happened, p))
    assert log_loss(p, happened) == pytest.approx(sklearn_log_loss(happened, p))
