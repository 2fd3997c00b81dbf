from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from browsing.decode import consensus, expected_iou, iou, likeliest

SESSION = st.lists(st.sampled_from("abcde"), max_size=5).map(tuple)


def shares(samples: Sequence[tuple[str, ...]]) -> dict[str, float]:
    """The share of the samples that every page is on."""
    pages = {page for sample in samples for page in sample}
    return {page: sum(page in sample for sample in samples) / len(samples) for page in pages}


def test_iou_is_over_distinct_pages() -> None:
    assert iou(("a", "b", "a"), ("b", "c")) == 1 / 3
    assert iou(("a", "b"), ("b", "a", "b")) == 1
    assert iou(("a",), ("b",)) == 0


def test_an_empty_session_earns_nothing() -> None:
    assert iou((), ("a",)) == iou(("a",), ()) == iou((), ()) == 0


def test_expected_iou_is_a_ratio_of_expectations() -> None:
    chances = {"a": 0.5, "b": 0.25, "c": 0.25}
    assert expected_iou(("a", "b", "a"), chances) == pytest.approx(0.75 / (2 + 1.0 - 0.75))
    assert expected_iou(("z",), chances) == 0
    assert expected_iou((), chances) == 0
    assert expected_iou((), {}) == 0
    assert expected_iou(("a", "b"), {"a": 1.0, "b": 1.0}) == 1


def test_the_greedy_path_can_beat_every_sample() -> None:
    """Each sample has one page of its own; what they share is the greedy path."""
    samples = [("a", "b", own) for own in "cdefgh"]
    assert consensus(samples, ("a", "b"), ("z",), shares(samples)) == ("a", "b")


def test_the_last_session_can_beat_them_all() -> None:
    samples = [("c", "b"), ("b", "a"), ("a", "c")]
    assert consensus(samples, ("a",), ("b", "a", "c"), shares(samples)) == ("b", "a", "c")


def test_a_sample_can_win() -> None:
    samples = [("a", "b"), ("a", "b", "c"), ("a", "b")]
    assert consensus(samples, ("d",), ("e",), shares(samples)) == ("a", "b")


def test_likely_pages_that_no_sample_holds_together_can_win() -> None:
    """Four likely pages, of which every sample has three: the four together are the best answer."""
    samples = [("a", "b", "c"), ("a", "b", "d"), ("a", "c", "d"), ("b", "c", "d"), ("w", "x", "y", "z")]
    chances = {**dict.fromkeys("abcd", 0.7), **dict.fromkeys("wxyz", 0.05)}
    assert consensus(samples, ("a",), (), chances) == ("a", "b", "c", "d")


def test_likely_pages_stand_in_the_order_of_the_samples() -> None:
    samples = [("c", "a", "b"), ("c", "b"), ("x", "c", "a")]
    chances = {"a": 0.9, "b": 0.8, "c": 0.7, "q": 0.6, "x": 0.0}
    first, two, three, four = likeliest(samples, chances, 6)
    assert first == ("a",)
    assert two == ("a", "b")  # a at places 1/3 and 2/3, b at 2/3 and 1/2
    assert three == ("c", "a", "b")
    assert four == ("c", "a", "b", "q")  # on no sample: last
    assert likeliest(samples, chances, 1) == [("a",)]
    assert likeliest([], {}, 3) == []


def test_ties_between_orders_of_the_same_pages() -> None:
    """The order drawn most often, else the greedy path, else the earliest sample."""
    for samples, greedy, last, expected in (
        ([("b", "a"), ("a", "b"), ("a", "b")], ("b", "a"), (), ("a", "b")),
        ([("b", "a"), ("a", "b")], ("a", "b"), (), ("a", "b")),
        ([("b", "a"), ("a", "b")], ("c",), ("a", "b"), ("b", "a")),
    ):
        assert consensus(samples, greedy, last, shares(samples)) == expected


def test_nothing_but_empty_sessions() -> None:
    assert consensus([(), ()], (), (), {}) == ()
    assert consensus([(), ()], ("a",), ("b",), {}) == ()
    assert consensus([(), ("a",)], (), (), {"a": 0.5}) == ("a",)


@given(
    st.lists(SESSION, min_size=1, max_size=6),
    SESSION,
    SESSION,
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1)),
)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_no_candidate_has_a_higher_expected_iou(
    samples: list[tuple[str, ...]], greedy: tuple[str, ...], last: tuple[str, ...], chances: dict[str, float]
) -> None:
    chosen = consensus(samples, greedy, last, chances)
    others = {greedy, last, *samples, *likeliest(samples, chances, 5)}
    assert chosen in others
    assert all(
        expected_iou(chosen, chances) >= expected_iou(other, chances) - 1e-9 for other in {greedy, last, *samples}
    )
