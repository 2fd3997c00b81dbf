"""Forecasts for many visitors: the service's own path, many questions in flight at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np

from browsing.engine import Engine
from browsing.forecast import Draws, Forecast, Forecaster, Options, Question
from training.evaluation.result import Decode

PATIENCE = 600.0
"""Deadline of one question, in seconds: nobody waits for an evaluation, but a dead engine must end it."""


Sampled = Literal["consensus", "greedy"]
DECODES: tuple[Sampled, ...] = ("consensus", "greedy")
Answer = TypeVar("Answer")


def silent(_: float) -> None:
    """Progress that nobody watches."""


def question_seed(seed: int, place: int) -> int:
    """The seed of the question at `place`: 32 bits that depend on the two numbers alone. Both are at least 0."""
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0])


async def forecasts(
    engine: Engine,
    forecaster: Forecaster,
    questions: Sequence[Question],
    options: Options,
    *,
    concurrency: int = 64,
    advance: Callable[[float], None] = silent,
) -> list[Forecast]:
    """One forecast per question, in order; `advance(1)` after each.

    Question i is asked with the seed `question_seed(options.seed, i)`, so that an answer depends neither on
    `concurrency` nor on how the engine batches. The first error ends all, and is raised.
    """
    return await _ask(engine, forecaster, questions, options, forecaster.summarise, concurrency, advance)


async def decoded_forecasts(
    engine: Engine,
    forecaster: Forecaster,
    questions: Sequence[Question],
    options: Options,
    *,
    concurrency: int = 64,
    advance: Callable[[float], None] = silent,
) -> dict[Decode, Sequence[Forecast]]:
    """The same under every decode, all from the same draws: `forecasts` would answer just so with either decode."""

    def read(question: Question, draws: Draws, own: Options) -> dict[Sampled, Forecast]:
        first = forecaster.summarise(question, draws, replace(own, decode=DECODES[0]))
        others = {d: forecaster.decode(question, draws, replace(own, decode=d)) for d in DECODES[1:]}
        return {DECODES[0]: first} | {d: replace(first, next_session=pages) for d, pages in others.items()}

    answers = await _ask(engine, forecaster, questions, options, read, concurrency, advance)
    by_decode: dict[Decode, Sequence[Forecast]] = {}
    for decode in DECODES:
        by_decode[decode] = [answer[decode] for answer in answers]
    return by_decode


async def _ask(
    engine: Engine,
    forecaster: Forecaster,
    questions: Sequence[Question],
    options: Options,
    read: Callable[[Question, Draws, Options], Answer],
    concurrency: int,
    advance: Callable[[float], None],
) -> list[Answer]:
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    answers: dict[int, Answer] = {}
    # Shared by the workers: each takes the next place. An engine runs what is alike together, so that comes together.
    places = iter(sorted(range(len(questions)), key=lambda i: (questions[i].cluster, -len(questions[i].prompt))))

    async def work() -> None:
        for place in places:
            own = replace(options, seed=question_seed(options.seed, place))
            draws = await forecaster.draw(engine, questions[place], own, PATIENCE)
            answers[place] = read(questions[place], draws, own)
            advance(1)

    workers = [asyncio.create_task(work()) for _ in range(min(concurrency, len(questions)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [answers[place] for place in range(len(questions))]
