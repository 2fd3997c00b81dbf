"""The engine alone: every request answered, and its arithmetic counted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from browsing.bundle import Bundle
from browsing.engines.local import LocalEngine
from loadtest.bench.asking import forecaster, options, questions
from loadtest.bench.operations import Shape
from loadtest.bench.peers.engine import COMMAND, Alone, Matrix, Stretch, Told, matrix
from loadtest.bench.workload import Workload


async def played(bundle: Bundle, work: Workload, *stretches: Stretch) -> list[Told]:
    engine = LocalEngine(bundle.predictors())
    await engine.start()
    try:
        alone = Alone(engine, bundle, work)
        return [await alone.play(stretch) for stretch in stretches]
    finally:
        await engine.stop()


async def counted(bundle: Bundle, work: Workload, numbers: range) -> float:
    """Operations per prediction, request by request."""
    engine, asking, shape = LocalEngine(bundle.predictors()), forecaster(bundle), Shape.read(bundle.predictor(0))
    asked = questions(bundle, work)
    await engine.start()
    total = 0
    try:
        for number in numbers:
            question = asked[work.place(number)]
            draws = await asking.draw(engine, question, options(work, bundle, number), 60.0)
            paths = [*draws.free, *draws.without["cart"], *draws.without["purchase"], draws.greedy]
            total += shape.prefill(len(question.prompt))
            total += sum(shape.path(len(question.prompt), len(path.tokens)) for path in paths)
    finally:
        await engine.stop()
    return total / len(numbers)


def test_a_stretch_is_played_whole(bundle: Bundle, work: Workload) -> None:
    draw, forecast = asyncio.run(
        played(
            bundle,
            work,
            Stretch(do="draw", first=30, count=9, concurrency=4),
            Stretch(do="forecast", first=30, count=9, concurrency=1),
        )
    )
    assert len(draw.latencies) == len(forecast.latencies) == 9
    assert draw.cpu > 0
    assert draw.operations == forecast.operations == asyncio.run(counted(bundle, work, range(30, 39)))


def test_a_matrix_product_is_measured() -> None:
    assert matrix(0.0, threads=1).per_second > 1e8


def test_commands_are_told_apart(tmp_path: Path) -> None:
    assert COMMAND.validate_json('{"do": "matrix", "seconds": 1}') == Matrix(seconds=1)
    assert COMMAND.validate_json('{"do": "draw", "first": 1, "count": 2, "concurrency": 3}') == Stretch(
        do="draw", first=1, count=2, concurrency=3
    )
    with pytest.raises(ValueError, match="first"):
        COMMAND.validate_json('{"do": "draw"}')
