from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from browsing.decode import consensus, iou

SESSION = st.lists(st.sampled_from("abcde"), max_size=5).map(tuple)


def test_iou_is_over_distinct_pages() -> None:
    assert iou(("a", "b", "a"), ("b", "c")) == 1 / 3
    assert iou(("a", "b"), ("b", "a", "b")) == 1
    assert iou(("a",), ("b",)) == 0


def test_an_empty_session_earns_nothing() -> None:
    assert iou((), ("a",)) == iou(("a",), ()) == iou((), ()) == 0


def test_the_greedy_path_can_beat_every_sample() -> None:
    """Each sample has one page of its own; what they share is the greedy path."""
    samples = [("a", "b", own) for own in "cdefgh"]
    assert consensus(samples, ("a", "b"), ("z",)) == ("a", "b")


def test_the_last_session_can_beat_them_all() -> None:
    assert consensus([("a", "b"), ("b", "c"), ("a", "c")], ("a",), ("a", "b", "c")) == ("a", "b", "c")


def test_a_sample_can_win() -> None:
    assert consensus([("a", "b"), ("a", "b", "c"), ("a", "b")], ("d",), ("e",)) == ("a", "b")


def test_ties_between_orders_of_the_same_pages() -> None:
    """The order drawn most often, else the greedy path, else the earliest sample."""
    assert consensus([("b", "a"), ("a", "b"), ("a", "b")], ("b", "a"), ()) == ("a", "b")
    assert consensus([("b", "a"), ("a", "b")], ("a", "b"), ()) == ("a", "b")
    assert consensus([("b", "a"), ("a", "b")], ("c",), ("a", "b")) == ("b", "a")


def test_nothing_but_empty_sessions() -> None:
    assert consensus([(), ()], (), ()) == ()
    assert consensus([(), ()], ("a",), ("b",)) == ()
    assert consensus([(), ("a",)], (), ()) == ("a",)


@given(st.lists(SESSION, min_size=1, max_size=6), SESSION, SESSION)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_no_candidate_has_a_higher_expected_iou(
    samples: list[tuple[str, ...]], greedy: tuple[str, ...], last: tuple[str, ...]
) -> None:
    def expected(candidate: tuple[str, ...]) -> float:
        return sum(iou(candidate, sample) for sample in samples) / len(samples)

    chosen = consensus(samples, greedy, last)
    assert chosen in {greedy, last, *samples}
    assert all(expected(chosen) >= expected(other) - 1e-9 for other in {greedy, last, *samples})
