"""Many questions at once: in order, the same whatever runs beside them, and stopped by the first error."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from browsing.bundle import Reference
from browsing.engine import EngineError, GenerateRequest, Path
from browsing.engines.table import TableEngine
from browsing.forecast import Forecaster, Options, Question
from browsing.vocabulary import BOS, EOS
from tests import tiny
from training.evaluation.forecasts import DECODES, decoded_forecasts, forecasts, question_seed

WORDS = tiny.vocabulary()
OPTIONS = Options(samples=4, seed=3)


def table(seed: int) -> NDArray[np.float64]:
    rows = np.random.default_rng(seed).random((len(WORDS), len(WORDS))) ** 3
    normalised: NDArray[np.float64] = rows / rows.sum(1, keepdims=True)
    return normalised


def forecaster() -> Forecaster:
    reference = Reference(cluster_shares=(0.5, 0.5), pages=({"/": 1.0}, {"/bags": 1.0}), outcome_rates={})
    outcomes = {"cart": (WORDS.id("/cart"),), "purchase": (WORDS.id("/purchase"),)}
    return Forecaster(WORDS, outcomes, reference, max_steps=6)


def questions(n: int) -> list[Question]:
    people = tiny.toy_users(tiny.SIX_PAGES, users=n)
    return [
        Question(i % 2, WORDS.prompt(history, 40).ids, tuple(map(tuple, history))) for i, history in enumerate(people)
    ]


class Slow(TableEngine):
    """Answers out of order, and counts how many calls are under way."""

    busy = 0
    most = 0

    async def generate(self, request: GenerateRequest) -> list[Path]:
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep((request.seed % 7) / 2000)
        self.busy -= 1
        return await super().generate(request)


@pytest.mark.parametrize("options", [OPTIONS, replace(OPTIONS, samples=32, tolerance=0.15)])
def test_answers_keep_the_questions_order_and_do_not_depend_on_concurrency(options: Options) -> None:
    asked = questions(20)
    engine = Slow([table(0), table(1)])
    advanced: list[float] = []
    many = asyncio.run(forecasts(engine, forecaster(), asked, options, concurrency=16, advance=advanced.append))
    assert engine.most > 16  # several calls per question
    one_by_one = asyncio.run(forecasts(Slow([table(0), table(1)]), forecaster(), asked, options, concurrency=1))
    assert many == one_by_one
    assert sum(advanced) == 20
    drawn = {answer.drawn.pages for answer in many}
    assert drawn == {4} if options.tolerance is None else len(drawn) > 1 and drawn <= {8, 16, 32}

    async def alone(place: int) -> object:
        own = replace(options, seed=question_seed(options.seed, place))
        draws = await forecaster().draw(TableEngine([table(0), table(1)]), asked[place], own, 10.0)
        return forecaster().summarise(asked[place], draws, own)

    assert [asyncio.run(alone(place)) for place in range(20)] == many


def test_both_decodes_are_what_either_alone_would_be_from_half_the_draws() -> None:
    asked = questions(20)
    engine = TableEngine([table(0), table(1)])
    both = asyncio.run(decoded_forecasts(engine, forecaster(), asked, OPTIONS))
    assert list(both) == ["consensus", "greedy"]
    drawn = len(engine.requests)
    for decode in DECODES:
        own = replace(OPTIONS, decode=decode)
        assert both[decode] == asyncio.run(forecasts(engine, forecaster(), asked, own))
    assert len(engine.requests) == 3 * drawn
    assert both["consensus"] != both["greedy"]


def test_concurrency_bounds_the_questions_under_way() -> None:
    engine = Slow([table(0), table(1)])
    asyncio.run(forecasts(engine, forecaster(), questions(10), OPTIONS, concurrency=2))
    assert engine.most <= 2 * 4  # the free set, one set for each of two outcomes, the greedy path


def test_another_seed_draws_other_paths() -> None:
    asked = questions(20)
    first, second = (
        asyncio.run(forecasts(TableEngine([table(0), table(1)]), forecaster(), asked, replace(OPTIONS, seed=seed)))
        for seed in (0, 1)
    )
    assert first != second


def test_the_same_question_at_two_places_has_two_draws() -> None:
    asked = questions(1) * 2
    first, second = asyncio.run(forecasts(TableEngine([table(0), table(1)]), forecaster(), asked, OPTIONS))
    assert first.outcomes != second.outcomes


def test_seeds_fit_every_engine_and_differ() -> None:
    seeds = {question_seed(seed, place) for seed in range(4) for place in range(1000)}
    assert len(seeds) == 4000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_first_error_ends_all() -> None:
    engine = TableEngine([table(0), table(1)])
    engine.failures.append(EngineError("broken"))
    with pytest.raises(EngineError, match="broken"):
        asyncio.run(forecasts(engine, forecaster(), questions(50), OPTIONS, concurrency=2))
    assert len(engine.requests) < 50


def test_no_question_has_no_answer() -> None:
    assert asyncio.run(forecasts(TableEngine([table(0)]), forecaster(), [], OPTIONS)) == []


def test_concurrency_must_be_positive() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        asyncio.run(forecasts(TableEngine([table(0)]), forecaster(), [], OPTIONS, concurrency=0))


def test_a_certain_world_is_forecast_exactly() -> None:
    bags, cart = WORDS.id("/bags"), WORDS.id("/cart")
    certain = np.zeros((len(WORDS), len(WORDS)))
    certain[:, EOS] = 1.0
    certain[BOS] = np.eye(len(WORDS))[bags]
    certain[bags] = (1 - 1e-12) * np.eye(len(WORDS))[cart] + 1e-12 * np.eye(len(WORDS))[EOS]
    question = Question(0, (BOS, bags, EOS, BOS), (("/bags",),))
    reference = Reference(cluster_shares=(1.0,), pages=({},), outcome_rates={})
    own = Forecaster(WORDS, {"cart": (cart,)}, reference, max_steps=6)
    (answer,) = asyncio.run(forecasts(TableEngine([certain]), own, [question], OPTIONS))
    assert answer.next_session == ("/bags", "/cart")
    assert answer.outcomes["cart"].probability == pytest.approx(1.0)
    assert answer.unfinished_paths == 0.0
