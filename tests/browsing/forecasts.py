"""A small shop whose forecasts are known: what is asked of a table instead of a predictor."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from browsing.bundle import Reference
from browsing.engine import Engine, Path
from browsing.forecast import Draws, Forecast, Forecaster, Options, Question
from tests import tiny

WORDS = tiny.vocabulary()  # /cart 4, /purchase 5, / 6, /bags 7, /bags/tote 8, /shoes 9
OUTCOMES = {"cart": (4,), "purchase": (5,)}
HISTORY = (("/", "/shoes"), ("/", "/bags", "/gone"))
QUESTION = Question(0, WORDS.prompt(HISTORY, 40).ids, HISTORY)


def reference(*pages: Mapping[str, float]) -> Reference:
    return Reference(cluster_shares=(1.0,), pages=tuple(map(dict, pages)), outcome_rates={})


def forecaster(outcomes: Mapping[str, tuple[int, ...]] = OUTCOMES, max_steps: int = 4) -> Forecaster:
    return Forecaster(WORDS, outcomes, reference({"/bags/tote": 0.5, "/": 0.3, "/shoes": 0.2}, {}), max_steps)


def table(seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).dirichlet(np.ones(10), 10)


def draw(engine: Engine, question: Question = QUESTION, options: Options = Options(), seconds: float = 9.0) -> Draws:
    return asyncio.run(forecaster().draw(engine, question, options, seconds))


def forecast(engine: Engine, question: Question, options: Options) -> Forecast:
    return forecaster().summarise(question, draw(engine, question, options), options)


def same(left: list[Path], right: list[Path]) -> bool:
    return all(a.tokens == b.tokens and (a.watched == b.watched).all() for a, b in zip(left, right, strict=True))
