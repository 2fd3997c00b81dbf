"""From rounds with known figures to the lines of the table."""

from __future__ import annotations

import pytest

from loadtest.bench.document import Figure, Product
from loadtest.bench.verdicts import Verdicts
from tests.loadtest.bench.reports import side


def by_key(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.key: figure for figure in figures}


def median(figure: Figure) -> float:
    assert figure.value is not None
    return figure.value.median


def test_against_a_peer_rounds_are_paired() -> None:
    """Both slow down together, so that the ratio stays."""
    sides = [
        side("transformers", name, number, concurrency=concurrency, per_second=rate / slow, p50=p50 * slow)
        for number, slow in enumerate((1.0, 2.0, 1.5))
        for name, rate, p50 in (("K=3", 30.0, 5.0), ("transformers", 10.0, 20.0))
        for concurrency in (1, 64)
    ]
    found = by_key(Verdicts(sides, (), 64).against("transformers", "K=3", "transformers", faster=4.5, throughput=2.5))
    one, many = found["one/transformers"], found["crowd/transformers"]
    assert median(one) == pytest.approx(4.0)
    assert median(many) == pytest.approx(3.0)
    assert many.value is not None
    assert many.value.low == pytest.approx(many.value.high)
    assert (one.held, many.held) == (False, True)


def test_around_the_engine() -> None:
    sides = [
        side("engine", "K=3", per_second=96.0, cpu=21.0),
        side("engine", "engine", per_second=100.0, cpu=20.25, operations=1e7),
        side("engine", "both", per_second=99.0, cpu=20.5, operations=1e7),
    ]
    product = Product(comparison="engine", round=0, per_second=3e9)
    found = by_key(Verdicts(sides, [product], 64).around("engine", "K=3", "engine", "both"))
    assert median(found["arithmetic"]) == pytest.approx(0.32)
    assert median(found["arithmetic/engine"]) == pytest.approx(1 / 3)
    assert found["arithmetic/engine"].held is None
    assert median(found["around/cpu"]) == pytest.approx(0.75)
    assert median(found["around/estimate"]) == pytest.approx(0.25)
    assert median(found["around/throughput"]) == pytest.approx(0.96)
    assert all(found[key].held for key in ("arithmetic", "around/cpu", "around/throughput"))


def test_clusters_and_one_larger() -> None:
    sides = [
        side("clusters", f"K={count}", concurrency=concurrency, per_second=rate, p50=100 / rate)
        for count, rate in ((1, 100.0), (3, 99.0), (6, 80.0))
        for concurrency in (1, 64)
    ] + [side("larger", "K=3", per_second=99.0), side("larger", "single", per_second=30.0)]
    verdicts = Verdicts(sides, (), 64)
    found = by_key(verdicts.clusters("clusters", (1, 3, 6)))
    assert median(found["clusters/6/throughput"]) == pytest.approx(0.8)
    assert found["clusters/6/throughput"].held is False
    assert found["clusters/6/p50/crowd"].held is False
    assert median(found["clusters/6/p50/one"]) == pytest.approx(1.25)
    assert found["clusters/3/throughput"].held is None, "only the largest number is held to something"
    larger = verdicts.larger("larger", "K=3", "single", 3)
    assert median(larger) == pytest.approx(3.3)
    assert larger.held


def test_flat_after_saturation() -> None:
    """8 saturates: slower below counts for nothing, slower above counts."""
    curve = {1: (40.0, 50), 8: (95.0, 100), 64: (100.0, 105), 256: (80.0, 130)}
    sides = [
        side("curve", "K=3", concurrency=concurrency, per_second=rate, memory=memory)
        for concurrency, (rate, memory) in curve.items()
    ]
    time, memory = Verdicts(sides, (), 64).flat("curve", "K=3", 256)
    assert median(time) == pytest.approx(1.25)
    assert median(memory) == pytest.approx(1.30)
    assert (time.held, memory.held) == (False, False)


def test_what_was_not_played_is_not_measured() -> None:
    figures = Verdicts((), (), 64).against("vllm", "K=1", "vllm", faster=4.0, throughput=4.0)
    assert [(figure.value, figure.held) for figure in figures] == [(None, None)] * 2
