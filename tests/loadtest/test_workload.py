from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.planning import Asked, open_source, people_of, plan_of, replay_of, times_of
from loadtest.scenarios import SCENARIOS, Scenario
from loadtest.visitors import VisitorError
from loadtest.workload import MIXTURE, Options, order, patience, zipf
from tests.loadtest import sources

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked("http://service", bundle=sources.bundle(tmp_path / "bundle"), visitors=50, seed=5)


def test_visitors_come_by_a_zipf_law() -> None:
    drawn = zipf(4, 1.0, 100_000, np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert shares == pytest.approx(np.array([12, 6, 4, 3]) / 25, abs=0.005)
    even = np.bincount(zipf(4, 0.0, 100_000, np.random.default_rng(0))) / 100_000
    assert even == pytest.approx([0.25] * 4, abs=0.005)


def test_new_visitors_come_once_and_too_few_of_them_are_told() -> None:
    nobody: list[int] = []
    found = order("new", 5, np.random.default_rng(0), population=nobody, fresh=range(5), hot=nobody, exponent=1.0)
    assert sorted(found.tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(VisitorError, match="6 visitors are needed that come only once, and there are 5"):
        order("new", 6, np.random.default_rng(0), population=nobody, fresh=range(5), hot=nobody, exponent=1.0)


def test_a_mixed_crowd_has_all_kinds_in_their_shares() -> None:
    returning, new, hot = range(100), range(1_000, 6_000), (3, 4)
    found = order(
        "mixed", 10_000, np.random.default_rng(0), population=returning, fresh=new, hot=hot, exponent=0.0
    ).tolist()
    fresh = [place for place in found if place >= 1_000]
    assert len(set(fresh)) == len(fresh)
    assert len(fresh) / 10_000 == pytest.approx(MIXTURE["new"], abs=0.02)
    often = Counter(found)
    assert (often[3] + often[4]) / 10_000 == pytest.approx(MIXTURE["hot"] + 0.02 * MIXTURE["returning"], abs=0.02)


def test_a_share_of_the_callers_leaves() -> None:
    found = patience(20_000, 0.05, 0.1, np.random.default_rng(0))
    leaving = found[np.isfinite(found)]
    assert len(leaving) / 20_000 == pytest.approx(0.05, abs=0.005)
    assert leaving.mean() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.crowd != "hot"], ids=lambda s: s.name)
def test_equal_seeds_make_equal_plans(scenario: Scenario, asked: Asked) -> None:
    def made(asked: Asked) -> str:
        source = open_source(asked)
        times = times_of(scenario, asked, 5.0, 20.0, (asked.seed,))
        people = people_of(scenario, asked, source, len(times))
        people = people.with_hot([0, 1, 1], None) if scenario.crowd == "mixed" else people
        return plan_of(scenario, asked, people, times, 20.0, (asked.seed,)).sha256

    assert made(asked) == made(asked)
    assert made(asked) != made(replace(asked, seed=6))
    assert made(asked) != made(replace(asked, options=Options(samples=3)))


def test_options_are_in_every_request(asked: Asked) -> None:
    asked = replace(asked, options=Options(samples=3, top_pages=7, deadline_ms=900, strict=True))
    people = people_of(BY_NAME["steady"], asked, open_source(asked), 0)
    documents = [json.loads(question.body) for question in people.questions]
    assert all(
        document["options"].items() >= {"samples": 3, "top_pages": 7, "deadline_ms": 900, "strict": True}.items()
        for document in documents
    )
    assert [document["options"]["seed"] for document in documents] == list(range(50))
    assert {question.top_pages for question in people.questions} == {7}


def test_the_hot_cluster_is_the_commonest_or_the_one_named(asked: Asked) -> None:
    people = people_of(BY_NAME["hot-cluster"], asked, open_source(asked), 0)
    found = people.with_hot([2, None, 1, 2, 0], None)
    assert found.hot == (0, 3)
    assert [found.questions[i].cluster for i in range(5)] == [2, None, None, 2, None]
    assert people.with_hot([2, None, 1, 2, 0], 0).hot == (4,)
    with pytest.raises(VisitorError, match=r"--cluster 7: none of 5 visitors is of it, but of \[0, 1, 2\]"):
        people.with_hot([2, None, 1, 2, 0], 7)
    with pytest.raises(VisitorError, match="did not say"):
        people.with_hot([None], None)


def test_a_replay_asks_about_those_who_came(tmp_path: Path) -> None:
    asked = Asked("http://service", dataset=sources.dataset(tmp_path / "data"), arrivals="replay")
    plan, compression = replay_of(BY_NAME["steady"].phases, asked, open_source(asked), 4.0, 10.0, (0,))
    who = [json.loads(plan.question(place).body)["sessions"][0]["pages"][0] for place in range(40)]
    assert who == [f"/own/{u}" for u in range(40)]
    assert compression == pytest.approx(60 * 39**1.5 / (10 * 39 / 40))
    assert plan.times[1:] / plan.times[1] == pytest.approx([u**1.5 for u in range(1, 40)], rel=1e-4)


def test_a_dataset_without_enough_visitors_for_a_cold_cache_says_what_to_do(tmp_path: Path) -> None:
    asked = Asked("http://service", dataset=sources.dataset(tmp_path / "data"))
    cold = BY_NAME["cold-cache"]
    times = times_of(cold, asked, 10.0, 20.0, (0,))
    people = people_of(cold, asked, open_source(asked), len(times))
    with pytest.raises(VisitorError, match="come only once, and there are 40: lower --rate"):
        plan_of(cold, asked, people, times, 20.0, (0,))
    with pytest.raises(VisitorError, match="--dataset"):
        open_source(Asked("http://service"))
