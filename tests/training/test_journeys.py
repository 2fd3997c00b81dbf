"""Journeys come from the model alone, are likely and differ, and repeat nobody's own session."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from browsing.bundle import Limits
from browsing.engine import GenerateRequest
from browsing.engine import Path as EnginePath
from browsing.engines.local import LocalEngine
from browsing.vocabulary import BOS
from tests import tiny
from tests.training.datasets import MONDAY
from training.dataset import Sample
from training.journeys import generate_journeys, rare_sessions, spread

LIMITS = Limits(context=64, max_steps=8)


def test_spread_takes_likely_ones_first_then_different_ones() -> None:
    sessions = [("/a", "/b")] * 6 + [("/a", "/b", "/c")] * 3 + [("/x", "/y")] * 3 + [("/z",)] * 2
    chosen = spread(sessions, 3)
    assert [journey.pages for journey in chosen] == [("/a", "/b"), ("/x", "/y"), ("/z",)]
    assert [journey.weight for journey in chosen] == pytest.approx([9 / 14, 3 / 14, 2 / 14])


def test_spread_of_few_sessions() -> None:
    assert spread([]) == ()
    assert [journey.pages for journey in spread([("/a",), ("/a",)])] == [("/a",)]


def test_the_same_seed_gives_the_same_journeys_and_no_history_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tiny.vocabulary()
    predictors = tiny.predictors(tmp_path, words)
    asked: list[GenerateRequest] = []
    generate = LocalEngine.generate_batch

    def spy(engine: LocalEngine, requests: Sequence[GenerateRequest]) -> list[list[EnginePath]]:
        asked.extend(requests)
        return generate(engine, requests)

    monkeypatch.setattr(LocalEngine, "generate_batch", spy)
    first = generate_journeys(predictors, words, LIMITS, seed=3)
    assert first == generate_journeys(predictors, words, LIMITS, seed=3)
    assert {request.prompt for request in asked} == {(BOS,)}
    assert len(first) == 2
    for cluster in first:
        assert 1 <= len(cluster) <= 3
        assert all(page in words for journey in cluster for page in journey.pages)
        assert sum(journey.weight for journey in cluster) == pytest.approx(1)
    assert first[0] != first[1], "two predictors, two kinds of journeys"


def test_a_recorded_session_is_not_shown(tmp_path: Path) -> None:
    words = tiny.vocabulary()
    predictors = tiny.predictors(tmp_path, words, 1)
    [before] = generate_journeys(predictors, words, LIMITS)
    recorded = frozenset(journey.pages for journey in before)
    [after] = generate_journeys(predictors, words, LIMITS, recorded)
    assert not recorded & {journey.pages for journey in after}


def test_a_page_that_may_not_be_shown_of_a_cluster_is_on_none_of_its_journeys(tmp_path: Path) -> None:
    words = tiny.vocabulary()
    predictors = tiny.predictors(tmp_path, words)
    first, second = generate_journeys(predictors, words, LIMITS)
    hidden = first[0].pages[0]
    allowed = frozenset(words.pages) - {hidden}
    less, same = generate_journeys(predictors, words, LIMITS, shown=[allowed, frozenset(words.pages)])
    assert same == second
    assert less
    assert hidden not in {page for journey in less for page in journey.pages}
    assert sum(journey.weight for journey in less) == pytest.approx(1)
    assert generate_journeys(predictors, words, LIMITS, shown=[frozenset()] * 2) == [(), ()]


def test_a_session_is_rare_until_enough_users_walked_it() -> None:
    long, short = ("/a", "/b", "/c"), ("/a", "/b")

    def walk(user: str, *sessions: tuple[str, ...]) -> Sample:
        return Sample(user, sessions[:-1], (MONDAY,) * (len(sessions) - 1), sessions[-1], MONDAY)

    twice = [walk("u", long, long, short)]
    assert rare_sessions(twice, 2) == {long}, "the same user again is no second user"
    assert rare_sessions([*twice, walk("v", short, long)], 2) == frozenset()
