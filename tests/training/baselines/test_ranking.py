"""Rankings: their order, their length and their probabilities, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from browsing.vocabulary import Vocabulary
from tests.training.baselines.people import visitor
from training.baselines.journeys import few, journeys
from training.baselines.popularity import Popularity
from training.baselines.ranking import Popular, mean_iou, probabilities
from training.baselines.repeat import Repeat

ABCD = Vocabulary(["a", "b", "c", "d"])


def test_mean_iou_by_length() -> None:
    """One user viewed the first and the third page and one unranked, the other the second alone."""
    hits = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    assert mean_iou(hits, np.array([3.0, 1.0])) == pytest.approx(
        [(1 / 3 + 0 / 2) / 2, (1 / 4 + 1 / 2) / 2, (2 / 4 + 1 / 3) / 2]
    )


def test_the_best_pages_in_a_known_order() -> None:
    """Equal scores go to the more popular page; what is missing are the most popular ones, with score 0."""
    users = journeys([visitor("1", [["c", "d"]], ["c"]), visitor("2", [["d"]], ["c"]), visitor("3", [["d"]], ["b"])])
    popular = Popular(users, ABCD)
    assert popular.counts.tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
    assert popular.order.tolist() == [7, 6, 5, 4]
    ids, scores = popular.best(np.array([4, 5, 6]), np.array([0.5, 0.2, 0.5]))
    assert (ids.tolist(), scores.tolist()) == ([6, 4, 5, 7], [0.5, 0.5, 0.2, 0.0])
    popular.depth = 2
    ids, scores = popular.best(np.array([4, 5, 6]), np.array([0.2, 0.2, 0.2]))
    assert (ids.tolist(), scores.tolist()) == ([6, 5], [0.2, 0.2])
    ids, scores = popular.best(np.zeros(0, np.int64), np.zeros(0))
    assert (ids.tolist(), scores.tolist()) == ([7, 6], [0.0, 0.0])


def test_probabilities_rise_with_the_score() -> None:
    scores = np.array([[0.9, 0.9, 0.1, 0.1], [0.9, 0.5, 0.1, 0.0]])
    hits = np.array([[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    curve = probabilities(scores, hits)
    # Of scores 0.9 two of three came true; 0.5 (none of one) and 0.1 (one of three) are pooled to keep the order.
    assert curve.predict([0.9, 0.5, 0.1, 0.0]) == pytest.approx([2 / 3, 1 / 4, 1 / 4, 1 / 10])


def test_journeys_hold_every_session_once() -> None:
    whole = visitor("u", [["a"], ["b", "c", "d"], ["c"]], ["d"])
    earlier = visitor("u", [["a"]], ["b", "c", "d"])
    cut = visitor("u", [["a"], ["c", "d"]], ["c"])
    (journey,) = journeys([cut, earlier, whole])
    assert journey.sessions == (("a",), ("b", "c", "d"), ("c",), ("d",))
    assert journey.started_at == (*whole.history_started_at, whole.next_started_at)


def test_choices_are_made_on_each_users_newest_sample() -> None:
    older, newer = visitor("u", [["a"]], ["b"]), visitor("u", [["a"], ["b"]], ["c"])
    other = visitor("v", [["a"]], ["b"])
    assert few([newer, other, older], 10, 0) == [newer, other]
    assert len(few([newer, other, older], 1, 0)) == 1


def test_popularity_counts_users_and_chooses_its_length() -> None:
    """b has three users, c two, a one, who viewed it often; the next sessions hold b and c."""
    train = [
        visitor("1", [["a", "a", "a", "b"]], ["b", "c"]),
        visitor("2", [["b"]], ["b", "c"]),
        visitor("3", [["b"]], ["d"]),
    ]
    select = [visitor("4", [["a"]], ["b", "c"]), visitor("5", [["a"]], ["c", "b", "x"])]
    popularity = Popularity()
    popularity.fit(train, select, ABCD, {"cart": ("d",)}, 0)
    (forecast,) = popularity.forecast([visitor("6", [["a"]], ["a"])])
    assert forecast.next_session == ("b", "c")
    assert [(own.page, own.probability) for own in forecast.pages] == [
        ("b", 2.5 / 4),
        ("c", 2.5 / 4),
        ("d", 1.5 / 4),
        ("a", 0.5 / 4),
    ]
    assert [own.seen_before for own in forecast.pages] == [False, False, False, True]
    assert forecast.outcomes["cart"].probability == pytest.approx(1 / 3)
    # 17 tokens: a 3, b 5, c 2, d 1, [EOS] 6; and half of one for each of these and [UNK].
    nats, tokens = popularity.nats([visitor("6", [["a"]], ["b", "zzz"])])
    assert nats == pytest.approx([-np.log(5.5 / 20) - np.log(0.5 / 20) - np.log(6.5 / 20)])
    assert tokens.tolist() == [3]


def test_repeat_counts_who_comes_back() -> None:
    """Of pages viewed in the last session two of three came back, of those viewed in the one before one of two."""
    train = [visitor("1", [["a"], ["b", "c"]], ["a", "b"]), visitor("2", [["d"], ["a"]], ["a"])]
    repeat = Repeat()
    repeat.fit(train, [], ABCD, {}, 0)
    (forecast,) = repeat.forecast([visitor("3", [["d"], ["a", "b"], ["b", "x", "c"]], ["a"])])
    assert forecast.next_session == ("b", "c")
    # Nobody's history in training is as long as d's: it gets no more than a.
    assert [own.page for own in forecast.pages] == ["c", "b", "a", "d"]
    assert [own.probability for own in forecast.pages] == pytest.approx([2.5 / 4, 2.5 / 4, 1.5 / 3, 1.5 / 3])
    (forecast,) = repeat.forecast([visitor("3", [["a", "b"], ["x"]], ["a"])])
    assert forecast.next_session == ("a", "b")
    (empty,) = repeat.forecast([visitor("4", [["x"]], ["a"])])
    assert (empty.next_session, empty.pages) == ((), ())
