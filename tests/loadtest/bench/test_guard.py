"""The regression guard: ratios, beyond their spread and a margin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.bench.commands import app
from loadtest.bench.document import read
from loadtest.bench.errors import BenchError
from loadtest.bench.guard import compare, table
from tests.loadtest.bench.reports import KINDS, figure, report, study

BEFORE = (2.9, 3.0, 3.1)


@pytest.mark.parametrize(
    ("after", "better", "kind"),
    [
        ((2.0, 2.0, 2.1), "higher", "worse"),
        ((2.0, 2.0, 2.1), "lower", "better"),
        ((4.0, 4.1, 4.0), "higher", "better"),
        ((4.0, 4.1, 4.0), "lower", "worse"),
        ((2.7, 2.75, 2.8), "higher", "same"),  # below, yet within spread and margin
        ((1.0, 3.0, 9.0), "higher", "same"),  # nobody knows
        ((), "higher", "missing"),
    ],
)
def test_beyond_spread_and_margin(after: tuple[float, ...], better: str, kind: str) -> None:
    (change,) = compare(report([figure("a", BEFORE, better=better)]), report([figure("a", after, better=better)]))
    assert change.kind == kind
    assert kind in table([change])


def test_seconds_are_not_compared() -> None:
    assert compare(report([figure("a", BEFORE, unit="ms")]), report([figure("a", (99.0,), unit="ms")])) == []


def test_other_conditions_are_refused() -> None:
    with pytest.raises(BenchError, match="the runs differ in threads"):
        compare(report([]), report([], threads=4))
    with pytest.raises(BenchError, match="the predictors of K=3"):
        compare(report([]), report([], parameters=6))


def test_the_command(tmp_path: Path) -> None:
    old, same, worse = tmp_path / "old.json", tmp_path / "same.json", tmp_path / "worse.json"
    report([figure("a", BEFORE), figure("b", BEFORE)]).write(old)
    report([figure("a", BEFORE), figure("b", (3.1, 3.0))]).write(same)
    report([figure("a", (1.0, 1.01, 1.02))]).write(worse)
    runner = CliRunner()
    fine = runner.invoke(app, ["guard", str(old), str(same)])
    assert fine.exit_code == 0, fine.output
    assert json.loads(fine.stdout.splitlines()[-1]) == {"ratios": {"a": "same", "b": "same"}, "worse": 0}
    fell = runner.invoke(app, ["guard", str(old), str(worse), "--json"])
    assert fell.exit_code == 1
    assert json.loads(fell.stdout) == {"ratios": {"a": "worse", "b": "missing"}, "worse": 1}
    assert "not measured any more: figure b" in fell.stderr
    broken = runner.invoke(app, ["guard", str(old), str(tmp_path / "absent.json")])
    assert broken.exit_code == 2
    assert "absent.json: no report" in broken.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_commands_documents(kind: str, tmp_path: Path) -> None:
    old, new, peers, others = (tmp_path / name for name in ("old.json", "new.json", "bench.json", "others.json"))
    study(kind, [figure("a", BEFORE), figure("b", BEFORE, better="lower"), figure("c", BEFORE, unit="share")]).write(
        old
    )
    study(kind, [figure("a", (1.0, 1.01)), figure("b", (1.0, 1.01)), figure("c", (0.1,))]).write(new)
    report([figure("a", BEFORE)]).write(peers)
    study(KINDS[KINDS.index(kind) - 1], [figure("a", BEFORE)]).write(others)
    runner = CliRunner()
    fell = runner.invoke(app, ["guard", str(old), str(new), "--json"])
    assert fell.exit_code == 1, fell.output
    assert json.loads(fell.stdout) == {"ratios": {"a": "worse", "b": "better"}, "worse": 1}
    assert runner.invoke(app, ["guard", str(old), str(old)]).exit_code == 0
    for other in (peers, others):
        mixed = runner.invoke(app, ["guard", str(old), str(other)])
        assert mixed.exit_code == 2
        assert "measured different things" in mixed.stderr


def test_a_study_under_other_conditions_is_refused() -> None:
    old = study("bench-encoder", [], {"threads": 1, "pages": 8})
    for conditions, named in (({"threads": 2, "pages": 8}, "threads"), ({"threads": 1}, "pages")):
        with pytest.raises(BenchError, match=f"the runs differ in {named}:"):
            compare(old, study("bench-encoder", [], conditions))


def test_published_documents_are_read() -> None:
    runs = Path(__file__).parents[3] / "docs/results/runs"
    published = read(runs / "bench-small.json")
    assert published.kind == "bench"
    assert {change.kind for change in compare(published, published)} == {"same"}
