from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.comparison import ComparisonError, compare, read
from loadtest.figures import ratio
from loadtest.planning import Asked
from loadtest.result import Result
from loadtest.run import run
from loadtest.scenarios import SCENARIOS, STEADY
from tests.loadtest import sources
from tests.loadtest.fake import Fake
from tests.loadtest.virtual import passing


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HETLM_QUIET", "1")
    return sources.bundle(tmp_path / "bundle")


def ran(bundle: Path, seconds: float, *, seed: int = 0, scenario: str = "steady") -> Result:
    asked = Asked("http://service", bundle=bundle, rate=10.0, seconds=20.0, visitors=20, seed=seed)
    found = next(own for own in SCENARIOS if own.name == scenario)
    # Slower and slower over the run, so that tenths differ.
    return passing(run(found, asked, Fake(delay=lambda now: seconds * (1 + now / 10)).transport))


def test_a_ratio_has_its_spread() -> None:
    found = ratio([0.5, 2.0])
    assert found.mean == pytest.approx(1.0)
    assert (found.least, found.most, found.n) == (0.5, 2.0, 2)
    assert found.interval is not None
    # Student's t with one degree of freedom, 12.706, times log 2: the standard error of two logs is log 2.
    assert found.interval == pytest.approx((0.5**12.7062, 2**12.7062), rel=1e-3)
    assert ratio([1.5]).interval is None


def test_twice_as_slow_is_twice_as_slow_in_every_tenth(bundle: Path) -> None:
    found = compare(ran(bundle, 0.01), ran(bundle, 0.02))
    assert found.same_plan
    figures = {figure.name: figure for figure in found.figures}
    for name in ("p50", "p95", "p99", "max"):
        own = figures[f"latency {name}, ms"]
        assert own.ratio == pytest.approx(2.0, rel=1e-3)
        assert own.paired is not None
        assert (own.paired.least, own.paired.most) == pytest.approx((2.0, 2.0), rel=1e-3)
        assert own.paired.n == 10
    assert figures["correct rate"].ratio == 1.0


def test_other_arrivals_are_not_paired(bundle: Path) -> None:
    found = compare(ran(bundle, 0.01), ran(bundle, 0.01, seed=1))
    assert not found.same_plan
    assert all(figure.paired is None for figure in found.figures)


def test_other_scenarios_are_not_compared(bundle: Path) -> None:
    with pytest.raises(ComparisonError, match="steady and spike are different scenarios"):
        compare(ran(bundle, 0.01), ran(bundle, 0.01, scenario="spike"))


def test_a_result_survives_its_file(bundle: Path, tmp_path: Path) -> None:
    found = ran(bundle, 0.01)
    (tmp_path / "a.json").write_text(found.model_dump_json())
    assert read(tmp_path / "a.json") == found
    with pytest.raises(ComparisonError, match=r"b.json: No such file"):
        read(tmp_path / "b.json")
    (tmp_path / "b.json").write_text('{"kind": "load"}')
    with pytest.raises(ComparisonError, match=r"is no result of `python -m loadtest` \(scenario: Field required\)"):
        read(tmp_path / "b.json")
    assert STEADY.name == found.scenario
