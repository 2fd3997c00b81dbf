from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from loadtest import show
from loadtest.comparison import compare
from loadtest.judge import failures, flags, judged
from loadtest.planning import Asked
from loadtest.result import Batch, Fault, Group, Pair, Pairs, Ratio, Result
from loadtest.run import run
from loadtest.scenarios import STEADY
from loadtest.trends import QUANTITIES, trend
from tests.loadtest import sources
from tests.loadtest.fake import Fake
from tests.loadtest.virtual import passing

TIMES = np.arange(100, dtype=np.float64)
LEAK = trend(QUANTITIES[0], TIMES, 100 + TIMES)
FLAT = trend(QUANTITIES[2], TIMES, 0 * TIMES + 9)
FAULT = Fault(what="SIGKILL to process 9", at=10.0, bad=3, recovered_after=1.5)
BATCH = Batch(route="/batches", rows=100, rows_per_second=5.0, files=1, wrong=0)


@pytest.fixture
def right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setenv("HETLM_QUIET", "1")
    asked = Asked("http://service", bundle=sources.bundle(tmp_path / "bundle"), rate=5.0, seconds=10.0, visitors=9)
    found = passing(run(STEADY, asked, Fake().transport))
    # What depends on the machine that the test runs on, in real time.
    machine = found.machine.model_copy(update={"cores": 4, "load_before": 0.5})
    lag = found.lag.model_copy(update={"cpu_share": 0.1})
    return found.model_copy(update={"machine": machine, "lag": lag})


def but(found: Result, part: str, **changed: object) -> Result:
    return found.model_copy(update={part: getattr(found, part).model_copy(update=changed)})


def paired(group: Group, mean: float, interval: tuple[float, float] | None, wrong: int = 0) -> Pairs:
    batch = BATCH.model_copy(update={"wrong": wrong})
    pair = Pair(first="without", without=group, beside=group, batch=batch, p95_ratio=mean)
    ratio = Ratio(n=1, mean=mean, interval=interval, least=mean, most=mean)
    return Pairs(capacity=30.0, utilisation=0.3, pairs=(pair,), p95_ratio=ratio, limit=1.25)


def test_a_right_run_has_nothing_to_say(right: Result) -> None:
    assert flags(right, watched=False) == failures(right) == []


def test_what_a_service_does_not_hold(right: Result) -> None:
    account = right.answers
    cases = {
        "2 accepted requests were lost or answered wrongly": but(right, "answers", honest=account.accepted - 2),
        "3 requests found no connection": but(right, "answers", unreachable=3),
        "4 requests were not sent, so many were outstanding": but(right, "answers", dropped=4),
        "not one request was answered correctly": but(right, "answers", correct=0),
        "after the fault the model did not come back": right.model_copy(
            update={"fault": FAULT.model_copy(update={"recovered_after": None})}
        ),
        "5 rows of the files are lost, doubled, another visitor's or not scored": right.model_copy(
            update={"batch": BATCH.model_copy(update={"wrong": 5})}
        ),
        "6 rows of the files are lost, doubled, another visitor's or not scored": right.model_copy(
            update={"pairs": paired(right.counted, 1.0, (0.9, 1.1), wrong=6)}
        ),
        "p95 with a file beside it is 1.300 times p95 without, above 1.25": right.model_copy(
            update={"pairs": paired(right.counted, 1.3, (1.28, 1.32))}
        ),
        "memory rose by 99.0 MiB (+3600.0 an hour)": right.model_copy(update={"trends": (LEAK, FLAT)}),
    }
    assert {name: failures(found) for name, found in cases.items()} == {name: [name] for name in cases}
    assert not judged(cases["not one request was answered correctly"], watched=False).passed


def test_a_killed_server_may_be_unreachable(right: Result) -> None:
    found = but(right, "answers", unreachable=3).model_copy(update={"fault": FAULT})
    assert failures(found) == []


@pytest.mark.parametrize(
    ("part", "changed", "words"),
    [
        ("lag", {"late": True, "p99_ms": 31.0}, "the generator itself was late (31.0 ms in one of a hundred)"),
        ("lag", {"cpu_share": 0.9}, "the generator used 90% of a core"),
        ("counted", {"achieved_rate": 2.0, "intended_rate": 5.0}, "2.00 requests per second were sent where 5.00"),
        ("answers", {"unsteady": 7}, "7 answers differ from the first one to the equal question"),
        ("machine", {"load_before": 4.5}, "the machine was busy before the run began (load 4.5)"),
    ],
)
def test_what_to_know_before_the_figures_are_believed(
    right: Result, part: str, changed: dict[str, object], words: str
) -> None:
    (found,) = flags(but(right, part, **changed), watched=False)
    assert found.startswith(words)


def test_a_soak_that_was_not_watched_and_an_undecided_ratio_are_flagged(right: Result) -> None:
    assert flags(right, watched=True)[0].startswith("what the server's processes hold was not watched")
    for interval, count in (((1.0, 1.3), 1), (None, 1), ((1.0, 1.2), 0), ((1.3, 1.4), 0)):
        found = right.model_copy(update={"pairs": paired(right.counted, 1.1, interval)})
        assert len(flags(found, watched=False)) == count


def shown(found: Result) -> str:
    stream = io.StringIO()
    show.result(found, Console(file=stream, width=130, highlight=False))
    return stream.getvalue()


def test_everything_is_shown(right: Result) -> None:
    parts = {"fault": FAULT, "batch": BATCH, "trends": (LEAK, FLAT), "compression": 12.0}
    text = shown(judged(right.model_copy(update=parts), watched=True))
    for words in (
        "steady: 5.00 requests/s, 10 s, poisson, seed 0, the log 12.0 times as fast",
        "SIGKILL to process 9 at 10.0 s; 3 requests not answered by the model; good again after 1.50 s",
        "files beside it (/batches): 100 rows, 5.00 a second",
        "memory MiB",
        "rising",
        "FAILED: memory rose by 99.0 MiB",
        "accepted requests answered correctly or refused honestly:",
    ):
        assert words in text
    assert "…" not in text


def test_pairs_are_shown(right: Result) -> None:
    text = shown(right.model_copy(update={"pairs": paired(right.counted, 1.1, (1.0, 1.2))}))
    assert "capacity 30.00 correct answers/s; utilisation 30%" in text
    assert "p95 without: 1.100, 95 % [1.000, 1.200], from 1.100 to 1.100 over 1; limit 1.25" in text


def test_a_comparison_is_shown(right: Result) -> None:
    stream = io.StringIO()
    show.comparison(compare(right, right), Console(file=stream, width=130, highlight=False))
    assert "paired by tenths" in stream.getvalue()
    assert "1.000, 95 % [1.000, 1.000], from 1.000 to 1.000 over 10" in stream.getvalue()
