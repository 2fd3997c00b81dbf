"""The text baseline measured like every other model, without a bundle: the same judgement, the same document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import polars as pl
from pydantic import JsonValue

from browsing.console import progress
from training.baselines.text.baseline import Limits, TextBaseline
from training.baselines.text.endpoint import Endpoint
from training.dataset import Dataset, Sample, Split
from training.evaluation.machine import Stages, machine, peak_memory_mib
from training.evaluation.metrics.text import TextScores
from training.evaluation.result import Evaluation, Settings
from training.evaluation.rows import Judgement, Site
from training.evaluation.run import fingerprint
from training.evaluation.summary import Sampling, rows
from training.evaluation.users import per_user


def measured(
    baseline: TextBaseline,
    endpoint: Endpoint,
    limits: Limits,
    dataset: Dataset,
    samples: Sequence[Sample],
    *,
    split: Split,
    of_users: int,
    resamples: int,
    seed: int,
) -> tuple[Evaluation, pl.DataFrame]:
    """Ask about the samples and compare with what happened: (the document, the per-user values).

    There is one row, no test loss, and neither calibration nor thresholds: a yes and a no need none. `training` tells
    the endpoint's model, the settings of asking, and what it came to. Raises what `TextBaseline` raises.
    """
    stages = Stages()
    with stages("fit"):
        train = dataset.samples("train")
        baseline.fit(train, (), dataset.vocabulary(), dataset.outcomes(), seed)
    with stages("generate"), progress("asking", len(samples), "users") as advance:
        answers = baseline.forecast(samples, advance)
    with stages("judge"):
        site = _site(dataset, samples)
        judgement = Judgement.of(samples, [0] * len(samples), {"own": answers}, site, decode="own", text=TextScores.of)
        _, combined = rows(judgement, (), Sampling(resamples, seed))
        sha256 = fingerprint(dataset.info)
        frame = per_user(judgement, samples, sha256)
    asking: dict[str, JsonValue] = {
        "model": endpoint.model,
        "temperature": endpoint.temperature,
        "max_tokens": endpoint.max_tokens,
        "history_pages": limits.history,
        "example_pages": limits.example,
    }
    document = Evaluation(
        bundle_version="",
        dataset=dataset.root.resolve().name,
        dataset_sha256=sha256,
        vocabulary_sha256=site.vocabulary.sha256,
        method=baseline.name,
        seed=seed,
        training=asking | (asdict(baseline.tally) if baseline.tally else {}),
        settings=Settings(
            split=split,
            model=baseline.name,
            users=len(samples),
            of_users=of_users,
            decode="own",
            samples=1,
            seed=seed,
            max_steps=limits.session,
            prompt_tokens=0,
            resamples=resamples,
        ),
        clusters=(),
        combined=combined,
        machine=machine(),
        peak_memory_mib=peak_memory_mib(),
        seconds=stages.seconds,
    )
    return document, frame


def _site(dataset: Dataset, samples: Sequence[Sample]) -> Site:
    """Outcomes are those that the vocabulary has, and those that happened although it has not."""
    vocabulary, known = dataset.vocabulary(), dataset.outcomes()
    happened = frozenset(page for sample in samples for page in sample.next_session)
    outcomes = {
        name: pages
        for name, pages in dataset.rules.outcome_pages().items()
        if name in known or not happened.isdisjoint(pages)
    }
    return Site(vocabulary, frozenset(vocabulary.pages), outcomes)
