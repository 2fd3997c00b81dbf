"""What is decided on users that train nothing: the decode default on selection users, calibration on those kept for it.

Both use the engine, decode and estimate code that serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from browsing.bundle import Limits, Reference
from browsing.calibration import Calibration
from browsing.console import progress
from browsing.engines.local import LocalEngine
from browsing.forecast import Forecast, Forecaster, Options, Question
from browsing.propensity import Propensity
from browsing.vocabulary import Vocabulary
from training.batches import seed_of
from training.calibrating import fit_calibration
from training.dataset import Sample
from training.evaluation.forecasts import DECODES, decoded_forecasts, forecasts
from training.evaluation.metrics.pages import page_scores
from training.evaluation.result import Decode

SELECTION_USERS = 300
"""Enough to tell two decodes apart by a few hundredths of IoU."""
CALIBRATION_CASES = 10_000
"""Enough to know a share to a hundredth. Where users have many samples each, their newest are taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Samples of one split and their clusters [N]."""

    samples: Sequence[Sample]
    own: NDArray[np.int64]


class Decisions(BaseModel):
    """`iou`: mean intersection over union of each decode on the selection users, empty where there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decode: Literal["consensus", "greedy"]
    iou: dict[str, float]
    calibration: Calibration


def decide(
    predictors: Sequence[Path],
    vocabulary: Vocabulary,
    outcomes: dict[str, tuple[str, ...]],
    reference: Reference,
    limits: Limits,
    select: Held,
    calibrate: Held,
    seed: int,
    propensity: Propensity | None = None,
) -> Decisions:
    """Forecast the held-out users with the embedded engine. `predictors`: one directory per cluster. `propensity`: what
    the calibration may weigh beside the paths."""
    ids = {name: tuple(vocabulary.id(p) for p in pages) for name, pages in outcomes.items()}
    forecaster = Forecaster(vocabulary, ids, reference, limits.max_steps, propensity)
    few, calibrate = _few(newest_of_each(select), seed), newest_cases(calibrate)
    # As many paths as the service draws by default: a calibration holds for its own number of them alone.
    deciding = Options(seed=seed_of(seed, "decode") % 2**31)
    calibrating = Options(seed=seed_of(seed, "calibrate") % 2**31)

    async def ask() -> tuple[dict[Decode, Sequence[Forecast]], list[Forecast]]:
        engine = LocalEngine(predictors)
        await engine.start()
        try:
            with progress("forecasting held-out users", len(few.samples) + len(calibrate.samples), "samples") as bar:
                questions = _questions(few, vocabulary, limits)
                chosen = await decoded_forecasts(engine, forecaster, questions, deciding, advance=bar)
                questions = _questions(calibrate, vocabulary, limits)
                return chosen, await forecasts(engine, forecaster, questions, calibrating, advance=bar)
        finally:
            await engine.stop()

    by_decode, held = asyncio.run(ask())
    iou = {d: _mean_iou(few.samples, by_decode[d], vocabulary) for d in DECODES} if few.samples else {}
    best = max(DECODES, key=lambda d: iou.get(d, 0.0))
    calibration = _calibrate(calibrate.samples, held, outcomes, calibrating.samples, propensity)
    return Decisions(decode=best, iou=iou, calibration=calibration)


def newest_of_each(held: Held) -> Held:
    """One sample per user, the newest: it is users that are compared."""
    return newest_cases(held, 0)


def newest_cases(held: Held, most: int = CALIBRATION_CASES) -> Held:
    """Every user's newest sample, then every user's second newest, and so on, as long as no more than `most` are taken;
    in their own order."""
    by_user: dict[str, list[int]] = {}
    for i, sample in enumerate(held.samples):
        by_user.setdefault(sample.user_id, []).append(i)
    ranked = [sorted(own, key=lambda i: held.samples[i].next_started_at, reverse=True) for own in by_user.values()]
    rows: list[int] = []
    for rank in range(max(map(len, ranked), default=0)):
        others = [own[rank] for own in ranked if len(own) > rank]
        if rank and len(rows) + len(others) > most:
            break
        rows += others
    rows.sort()
    return Held([held.samples[i] for i in rows], held.own[rows])


def _few(held: Held, seed: int) -> Held:
    """At most `SELECTION_USERS` of them, drawn: in file order they might be the oldest accounts."""
    generator = np.random.default_rng(seed_of(seed, "few"))
    rows = np.sort(generator.permutation(len(held.samples))[:SELECTION_USERS])
    return Held([held.samples[i] for i in rows], held.own[rows])


def _questions(held: Held, vocabulary: Vocabulary, limits: Limits) -> list[Question]:
    return [
        Question(int(k), vocabulary.prompt(sample.history, limits.prompt).ids, sample.history)
        for sample, k in zip(held.samples, held.own, strict=True)
    ]


def _mean_iou(samples: Sequence[Sample], answers: Sequence[Forecast], vocabulary: Vocabulary) -> float:
    site = frozenset(vocabulary.pages)
    scores = [
        page_scores(answer.next_session, sample.next_session, frozenset(), vocabulary, site).iou
        for sample, answer in zip(samples, answers, strict=True)
    ]
    return float(np.mean(scores))


def _calibrate(
    samples: Sequence[Sample],
    answers: Sequence[Forecast],
    outcomes: dict[str, tuple[str, ...]],
    paths: int,
    propensity: Propensity | None,
) -> Calibration:
    users = [sample.user_id for sample in samples]
    fitted = {}
    for name, pages in outcomes.items():
        raw = np.array([answer.outcomes[name].probability for answer in answers], np.float64)
        happened = np.array([not frozenset(pages).isdisjoint(sample.next_session) for sample in samples], np.bool_)
        fitted[name] = fit_calibration(raw, happened, users, evidence_of(answers, name))
    return Calibration(samples=paths, outcomes=fitted, propensity=propensity)


def evidence_of(answers: Sequence[Forecast], outcome: str) -> NDArray[np.float64] | None:
    """What the histories alone say of an outcome, logits [N]; None where not all of them do."""
    said = [answer.outcomes[outcome].evidence for answer in answers]
    known = [logit for logit in said if logit is not None]
    return np.array(known, np.float64) if known and len(known) == len(said) else None
