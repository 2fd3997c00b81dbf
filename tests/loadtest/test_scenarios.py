"""Whole scenarios against the small service, in virtual time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.arrivals import ArrivalError
from loadtest.client import ServiceError
from loadtest.faults import FaultError, Hook
from loadtest.judge import promise
from loadtest.pairs import PairError
from loadtest.planning import Asked
from loadtest.result import Result
from loadtest.run import run
from loadtest.scenarios import SCENARIOS
from loadtest.visitors import VisitorError
from tests.loadtest import sources
from tests.loadtest.fake import VERSION, Fake, stalled, users
from tests.loadtest.virtual import passing

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setenv("HETLM_QUIET", "1")
    bundle = sources.bundle(tmp_path / "bundle")
    return Asked("http://service", bundle=bundle, rate=10.0, seconds=20.0, visitors=30, arrivals="fixed")


def ran(name: str, asked: Asked, fake: Fake) -> Result:
    return passing(run(BY_NAME[name], asked, fake.transport))


def test_steady(asked: Asked) -> None:
    fake = Fake(delay=stalled(10.0, 1.0, 0.02))
    found = ran("steady", asked, fake)
    assert found.passed
    assert promise(found) == "accepted requests answered correctly or refused honestly: 200 of 200"
    assert found.counted.requests == 180  # the warm-up is not counted, but checked
    assert found.counted.by_status == {"200": 180}
    assert found.counted.by_fallback == {"none": 180}
    assert found.counted.latency_ms.p50 == pytest.approx(20, abs=0.01)
    assert found.counted.latency_ms.max == pytest.approx(1_020, abs=100.1)
    assert found.counted.intended_rate == found.counted.correct_rate == 10.0
    assert found.counted.achieved_rate == pytest.approx(10.0)
    assert [phase.name for phase in found.phases] == ["warm-up", "steady"]
    assert not found.lag.late
    assert found.answers.unsteady == 0
    often = Counter(users(fake.asked)).most_common()
    assert often[0][1] > 3 * often[len(often) // 2][1]  # some come much more often


def test_a_spike_is_a_phase_of_its_own(asked: Asked) -> None:
    # Busy as it is, the service refuses what comes between 9 and 11.
    found = ran("spike", asked, Fake(refuse=lambda now: 9.0 <= now < 11.0))
    phases = {phase.name: phase for phase in found.phases}
    assert {name: phase.requests for name, phase in phases.items()} == {
        "warm-up": 20,
        "before": 60,
        "spike": 200,
        "after": 80,
    }
    assert phases["spike"].by_status == {"200": 100, "429": 100}
    assert found.answers.refused == 100
    assert found.passed
    assert promise(found).endswith("360 of 360")


def test_nobody_comes_twice_to_a_cold_cache(asked: Asked) -> None:
    fake = Fake()
    assert ran("cold-cache", asked, fake).passed
    assert len(set(users(fake.asked))) == 200
    sessions = [tuple(s["pages"]) for document in fake.asked for s in document["sessions"]]
    assert len(set(sessions)) == len(sessions)


def test_a_hot_cluster_is_asked_for_and_then_the_only_one(asked: Asked) -> None:
    fake = Fake()  # says 0 for even visitors, 1 for odd ones
    found = ran("hot-cluster", replace(asked, cluster=1), fake)
    assert found.passed
    assert found.counted.by_cluster == {"1": 180}
    assert users(fake.asked)[:8] == [f"visitor-{i}" for i in range(8)]
    assert {int(user.rpartition("-")[2]) % 2 for user in users(fake.asked)[30:]} == {1}


def test_files_beside_cost_what_they_cost(asked: Asked) -> None:
    # The whole truth: 1 s alone, 2.5 s with a file; a capacity of 32 callers, one answer a second each.
    found = ran("batch-beside", replace(asked, rate=None, pairs=3), Fake(delay=lambda _: 1.0, files_slow=2.5))
    assert found.pairs is not None
    assert found.pairs.capacity == pytest.approx(32)
    assert found.pairs.utilisation == pytest.approx(0.3)
    assert found.rate == pytest.approx(9.6)
    assert [pair.first for pair in found.pairs.pairs] == ["without", "with", "without"]
    assert [pair.p95_ratio for pair in found.pairs.pairs] == pytest.approx([2.5] * 3, rel=1e-3)
    assert found.pairs.p95_ratio.mean == pytest.approx(2.5, rel=1e-3)
    assert {pair.batch.route for pair in found.pairs.pairs} == {"/batches"}
    assert [pair.batch.rows_per_second for pair in found.pairs.pairs] == pytest.approx([20.0] * 3, rel=0.01)
    assert not found.passed
    assert found.failures == ("p95 with a file beside it is 2.500 times p95 without, above 1.25",)


def test_files_that_yield_pass(asked: Asked) -> None:
    fake = Fake(files_slow=1.1)
    found = ran("batch-beside", replace(asked, pairs=2), fake)
    assert found.passed
    assert found.pairs is not None
    assert found.pairs.capacity is None  # the rate was given
    assert found.pairs.p95_ratio.mean == pytest.approx(1.1, rel=1e-3)
    assert not fake.jobs  # what is left of the files is deleted


def test_without_batches_items_are_sent(asked: Asked) -> None:
    found = ran("batch-beside", replace(asked, pairs=1), Fake(has_batches=False, row_seconds=0.01))
    assert found.passed
    assert found.pairs is not None
    assert found.pairs.pairs[0].batch.route == "/predict/batch"
    assert found.pairs.pairs[0].batch.rows == 50 * 40  # 20 s of 50 items that take half a second
    assert found.pairs.p95_ratio.interval is None


def test_a_file_of_which_no_row_is_scored_compares_nothing(asked: Asked) -> None:
    with pytest.raises(PairError, match="no row of the file was scored"):
        ran("batch-beside", replace(asked, pairs=1), Fake(row_seconds=1_000.0))


def test_mixed_is_all_of_it(asked: Asked) -> None:
    fake = Fake(delay=lambda _: 0.1, row_seconds=0.005)
    found = ran("mixed", replace(asked, seconds=60.0), fake)
    assert found.passed, found.failures
    assert found.batch is not None
    assert found.batch.wrong == 0
    assert found.batch.files > 5
    assert found.answers.left > 10
    assert found.answers.accepted + found.answers.left == len(fake.asked) - 30  # thirty were asked which cluster
    phases = {phase.name: phase for phase in found.phases}
    assert list(phases) == ["warm-up", "steady", "spike", "after a spike"]
    assert phases["spike"].intended_rate == pytest.approx(30.0, rel=0.05)  # four spikes of three times the rate
    assert phases["steady"].intended_rate == pytest.approx(10.0, rel=0.05)
    assert "what the server's processes hold was not watched long enough" in "".join(found.flags)


@pytest.mark.parametrize(("restored", "recovered"), [(True, 5.0), (False, None)])
def test_a_fault_and_the_time_until_it_is_over(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, restored: bool, recovered: float | None
) -> None:
    down = False

    async def command(option: str, _: str) -> None:
        nonlocal down
        down = option == "--kill-command"

    def without_engine(document: dict[str, Any], _: int) -> dict[str, Any]:
        return {**document, "fallback": "engine_down"} if down else document

    monkeypatch.setattr("loadtest.faults._run", command)
    hook = Hook(command="true", restore="true" if restored else None)
    found = ran("engine-killed", replace(asked, hook=hook), Fake(change=without_engine))
    assert found.fault is not None
    assert (found.fault.what, found.fault.at) == ("true", 10.0)
    assert found.fault.recovered_after == (None if recovered is None else pytest.approx(recovered, abs=0.11))
    assert found.fault.bad == pytest.approx(50 if restored else 100, abs=1)
    assert found.answers.correct == 200  # the fallback's answers are right, too
    assert found.passed == restored
    assert {phase.name: set(phase.by_fallback) for phase in found.phases} == {
        "warm-up": {"none"},
        "before": {"none"},
        "after": {"none", "engine_down"} if restored else {"engine_down"},
    }


def broken(document: dict[str, Any], number: int) -> dict[str, Any]:
    return {**document, "user_id": "visitor-99"} if number % 10 == 0 else document


def test_mixed_up_visitors_fail_a_run(asked: Asked) -> None:
    found = ran("steady", asked, Fake(change=broken))
    assert not found.passed
    assert list(found.answers.reasons) == ["another visitor's user_id"]
    assert found.answers.wrong == 20
    assert promise(found) == "accepted requests answered correctly or refused honestly: 180 of 200"
    assert found.failures == ("20 accepted requests were lost or answered wrongly",)


def test_no_history_and_no_user_of_the_log_is_in_a_result(asked: Asked, tmp_path: Path) -> None:
    data = sources.dataset(tmp_path / "data")
    found = ran("steady", replace(asked, bundle=None, dataset=data), Fake())
    assert found.passed
    document = found.model_dump_json()
    assert "secret" not in document
    assert "/own/" not in document


def test_a_replay(asked: Asked, tmp_path: Path) -> None:
    data = sources.dataset(tmp_path / "data")
    fake = Fake()
    found = ran("steady", replace(asked, dataset=data, arrivals="replay", rate=2.0), fake)
    assert found.passed
    assert found.compression == pytest.approx(60 * 39**1.5 / (20 * 39 / 40))
    assert [document["sessions"][0]["pages"][0] for document in fake.asked] == [f"/own/{u}" for u in range(40)]


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("engine-killed", {}, FaultError, "engine-killed needs --kill-pid or --kill-command: how to kill the engine"),
        ("redis-killed", {}, FaultError, "how to kill the Redis"),
        ("steady", {"hook": Hook(command="true")}, FaultError, "steady kills nothing"),
        ("spike", {"arrivals": "replay"}, ArrivalError, "spike has arrivals or visitors of its own"),
        ("steady", {"arrivals": "replay"}, ArrivalError, "--arrivals replay needs --dataset"),
        ("steady", {"rate": 0.01, "seconds": 1.0}, ArrivalError, "are none: raise --rate or --seconds"),
        ("steady", {"bundle": None}, VisitorError, "no visitors: name a dataset"),
        ("batch-beside", {"rate": 0.1}, PairError, "0.10 requests per second is too little"),
    ],
)
def test_what_makes_no_sense_is_told_at_once(
    name: str, changes: dict[str, Any], error: type[Exception], message: str, asked: Asked
) -> None:
    fake = Fake()
    with pytest.raises(error, match=message):
        ran(name, replace(asked, **changes), fake)
    assert fake.asked == []


def test_another_bundle_than_the_one_that_is_served_is_told(asked: Asked, tmp_path: Path) -> None:
    other = sources.bundle(tmp_path / "other", version="e" * 64)
    with pytest.raises(ServiceError, match=f"serves bundle {VERSION[:12]}; --bundle has eeeeeeeeeeee"):
        ran("steady", replace(asked, bundle=other), Fake())
