"""Every page metric against answers worked out by hand, and laws that hold for any sessions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from browsing.vocabulary import Vocabulary
from training.evaluation.metrics.pages import PageScores, page_scores

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
