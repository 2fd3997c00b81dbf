"""Drawing until every outcome's interval is narrow enough: the rounds, and what their answers are worth."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from browsing.engine import EngineError, EngineTimeout, GenerateRequest, Path
from browsing.engines.table import TableEngine
from browsing.forecast import FIRST_ROUND, Options, Question
from browsing.vocabulary import BOS, EOS
from tests.browsing import exact, forecasts
from tests.browsing.forecasts import QUESTION


def test_without_a_tolerance_everything_is_asked_in_one_round() -> None:
    engine = TableEngine([forecasts.table()])
    draws = forecasts.draw(engine, options=Options(samples=40))
    assert [request.samples for request in engine.requests] == [40, 40, 40, 1]
    drawn = forecasts.forecaster().summarise(QUESTION, draws, Options(samples=40)).drawn
    assert (drawn.pages, drawn.outcomes) == (40, {"cart": 40, "purchase": 40})


def test_a_wide_tolerance_ends_with_the_first_round() -> None:
    engine = TableEngine([forecasts.table()])
    options = Options(samples=40, tolerance=0.5)
    assert forecasts.forecaster().summarise(
        QUESTION, forecasts.draw(engine, options=options), options
    ).drawn.outcomes == {
        "cart": FIRST_ROUND,
        "purchase": FIRST_ROUND,
    }
    assert [request.samples for request in engine.requests] == [FIRST_ROUND] * 3 + [1]
    few = TableEngine([forecasts.table()])
    forecasts.draw(few, options=Options(samples=3, tolerance=1e-9))
    assert few.requests == _asked(Options(samples=3))


def _asked(options: Options) -> list[GenerateRequest]:
    engine = TableEngine([forecasts.table()])
    forecasts.draw(engine, options=options)
    return engine.requests


def test_a_tolerance_that_is_never_met_draws_all_samples_in_growing_rounds() -> None:
    requests = [request for request in _asked(Options(samples=50, tolerance=1e-9)) if not request.greedy]
    assert [request.samples for request in requests] == [n for n in (8, 8, 16, 18) for _ in range(3)]
    assert len({request.seed for request in requests}) == 4, "one for each round"
    assert requests[0].seed == _asked(Options(samples=50))[0].seed
    assert all(left.deadline >= right.deadline > 0 for left, right in pairwise(requests))
    assert sum(request.greedy for request in _asked(Options(samples=50, tolerance=1e-9))) == 1


def test_only_outcomes_that_are_still_too_wide_are_asked_again() -> None:
    table = forecasts.table(4)
    table[:, 4] = 1e-6  # hardly ever a cart, and known for certain after a few rounds
    table /= table.sum(axis=1, keepdims=True)
    engine, options = TableEngine([table]), Options(samples=256, tolerance=0.02)
    draws = forecasts.draw(engine, options=options)
    cart, purchase = (len(draws.without[name]) for name in ("cart", "purchase"))
    assert FIRST_ROUND < cart < purchase <= 256
    assert len(draws.free) == purchase
    forecast = forecasts.forecaster().summarise(QUESTION, draws, options)
    assert (forecast.drawn.pages, forecast.drawn.outcomes) == (purchase, {"cart": cart, "purchase": purchase})
    assert forecast.unfinished_paths == np.mean([not path.finished for path in draws.free])
    for outcome in forecast.outcomes.values():
        assert outcome.interval[1] - outcome.interval[0] <= 2 * 0.02


def test_equal_questions_with_a_tolerance_have_equal_answers() -> None:
    options = Options(samples=64, tolerance=0.03)
    once, again = (forecasts.draw(TableEngine([forecasts.table()]), options=options) for _ in range(2))
    assert len(once.free) > FIRST_ROUND
    assert forecasts.same(once.free, again.free)
    assert forecasts.forecaster().summarise(QUESTION, once, options) == forecasts.forecaster().summarise(
        QUESTION, again, options
    )


class Failing(TableEngine):
    """Fails from the given request on."""

    def __init__(self, table: NDArray[np.float64], after: int, error: Exception) -> None:
        super().__init__([table])
        self.after = after
        self.error = error

    async def generate(self, request: GenerateRequest) -> list[Path]:
        if len(self.requests) >= self.after:
            raise self.error
        return await super().generate(request)


def test_a_later_round_that_comes_too_late_or_fails_is_left_out() -> None:
    """Four requests are the first round's, three the second's."""
    options = Options(samples=64, tolerance=1e-9)
    for after, paths in ((4, 8), (6, 8), (7, 16)):
        draws = forecasts.draw(Failing(forecasts.table(), after, EngineTimeout("late")), options=options)
        assert [len(own) for own in (draws.free, *draws.without.values())] == [paths] * 3
    draws = forecasts.draw(Failing(forecasts.table(), 4, EngineError("gone")), options=options)
    assert len(draws.free) == 8
    for error in (EngineTimeout("late"), EngineError("gone")):
        with pytest.raises(type(error)):
            forecasts.draw(Failing(forecasts.table(), 3, error), options=options)


def test_a_round_that_the_deadline_leaves_no_time_for_is_not_begun() -> None:
    class Slow(TableEngine):
        async def generate(self, request: GenerateRequest) -> list[Path]:
            await asyncio.sleep(0.2)
            return await super().generate(request)

    engine = Slow([forecasts.table()])
    draws = forecasts.draw(engine, options=Options(samples=64, tolerance=1e-9), seconds=0.3)
    assert len(draws.free) == FIRST_ROUND
    assert len(engine.requests) == 4


def test_a_tolerance_is_kept_and_its_intervals_hold_the_truth() -> None:
    """Stopping when few paths happen to agree would make errors that the intervals deny: a shop in which a purchase
    follows a rare cart is where they would."""
    table = np.full((10, 10), 1e-4)
    table[:, 6:10], table[:, EOS] = 0.18, 0.25
    table[6:10, 4] = (0.02, 0.2, 0.04, 0.01)
    table[4, 5] = 0.8
    table /= table.sum(axis=1, keepdims=True)
    truth = exact.visit_probability(exact.sessions(exact.table_next(table), (BOS,), 4), (5,))
    question, engine = Question(0, (BOS,), ()), TableEngine([table])

    async def ask(tolerance: float) -> list[tuple[float, tuple[float, float], int]]:
        found = []
        for seed in range(60):
            options = Options(samples=128, tolerance=tolerance, seed=seed)
            draws = await forecasts.forecaster().draw(engine, question, options, 60.0)
            forecast = forecasts.forecaster().summarise(question, draws, options)
            outcome = forecast.outcomes["purchase"]
            found.append((outcome.probability, outcome.interval, forecast.drawn.outcomes["purchase"]))
        return found

    taken = []
    for tolerance in (0.1, 0.03):
        found = asyncio.run(ask(tolerance))
        assert np.mean([abs(probability - truth) <= tolerance for probability, _, _ in found]) >= 0.95
        assert np.mean([low <= truth <= high for _, (low, high), _ in found]) >= 0.9
        taken.append(np.mean([paths for *_, paths in found]))
    assert taken[0] < taken[1] < 128
