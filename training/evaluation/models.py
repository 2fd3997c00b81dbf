"""What is evaluated: the bundle's predictors, its shared predictor, its mixture of Markov chains, or a baseline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from browsing.bundle import Bundle
from browsing.console import progress
from browsing.engine import Engine
from browsing.engines.local import LocalEngine
from browsing.engines.markov import MarkovEngine
from browsing.forecast import Forecast, Forecaster, Options, Question
from training.dataset import Dataset, Sample
from training.evaluation.forecasts import decoded_forecasts
from training.evaluation.machine import Stages
from training.evaluation.metrics.loss import Loss, markov_nats, pairs, predictor_nats
from training.evaluation.result import Decode
from training.evaluation.routing import pooled, questions

OWN = ("bundle", "shared", "fallback")
"""The models that a bundle holds; every other name is a baseline's."""

Answers = Mapping[Decode, Sequence[Forecast]]


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """A model's answers, per group of samples and decode, and its loss on the first group."""

    answers: Sequence[Answers]
    loss: Loss | None


@dataclass(frozen=True, slots=True)
class BundleModel:
    """One of the models `OWN`. `clusters` [group][sample] are asked by `bundle`; the other two have only one."""

    name: str
    bundle: Bundle
    options: Options
    threads: int | None = None

    def forecasts(
        self, groups: Sequence[Sequence[Sample]], clusters: Sequence[Sequence[int]], stages: Stages
    ) -> Forecasts:
        """Raises what an engine raises."""
        own = clusters if self.name == "bundle" else [[0] * len(samples) for samples in groups]
        asked = [questions(self.bundle, samples, k) for samples, k in zip(groups, own, strict=True)]
        with stages("loss"):
            loss = self._loss(groups[0], asked[0])
        with stages("generate"):
            return Forecasts(asyncio.run(self._ask(asked)), loss)

    def _loss(self, samples: Sequence[Sample], asked: Sequence[Question]) -> Loss:
        scored, cut = pairs(
            [question.prompt for question in asked],
            [sample.next_session for sample in samples],
            self.bundle.vocabulary,
            self.bundle.manifest.limits.context,
        )
        with progress("scoring next sessions", len(samples), "users") as advance:
            if self.name == "fallback":
                nats, tokens = markov_nats(self.bundle.fallback, scored, advance)
            else:
                nats, tokens = predictor_nats(self._directories(), [q.cluster for q in asked], scored, advance)
        return Loss(nats, tokens, cut)

    async def _ask(self, asked: Sequence[Sequence[Question]]) -> list[Answers]:
        bundle = self.bundle
        reference = bundle.reference if self.name == "bundle" else pooled(bundle.reference)
        steps, propensity = bundle.manifest.limits.max_steps, bundle.calibration.propensity
        forecaster = Forecaster(bundle.vocabulary, bundle.outcome_ids(), reference, steps, propensity)
        engine = self._engine()
        await engine.start()
        try:
            with progress("generating", sum(map(len, asked)), "users") as advance:
                answers: list[Answers] = []
                for group in asked:
                    answers.append(await decoded_forecasts(engine, forecaster, group, self.options, advance=advance))
                return answers
        finally:
            await engine.stop()

    def _engine(self) -> Engine:
        if self.name == "fallback":
            return MarkovEngine(self.bundle.fallback)
        return LocalEngine(self._directories(), threads=self.threads)

    def _directories(self) -> list[Path]:
        return self.bundle.predictors() if self.name == "bundle" else [self.bundle.root / "shared"]


def baseline_forecasts(
    name: str, dataset: Dataset, groups: Sequence[Sequence[Sample]], seed: int, stages: Stages
) -> Forecasts:
    """Fit a baseline on the dataset's training users and ask it. Raises `ValueError` for an unknown name."""
    from training.baselines.registry import BASELINES

    if name not in BASELINES:
        raise ValueError(f"no model {name!r}: it is one of {', '.join((*OWN, *BASELINES))}")
    baseline = BASELINES[name]()
    with stages("fit"):
        train, select = dataset.samples("train"), dataset.samples("select")
        baseline.fit(train, select, dataset.vocabulary(), dataset.outcomes(), seed)
    with stages("loss"):
        scored = baseline.nats(groups[0])
        loss = None if scored is None else Loss(scored[0], scored[1], np.zeros(len(groups[0]), bool))
    with stages("generate"), progress("forecasting", sum(map(len, groups)), "users") as advance:
        answers: list[Answers] = [{"own": baseline.forecast(samples, advance)} for samples in groups]
    return Forecasts(answers, loss)
