"""An evaluation: route every visitor as the service does, forecast, and compare with what happened."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch

from browsing.bundle import Bundle
from browsing.calibration import Calibration
from browsing.console import progress
from browsing.encoder import Encoder, Vectors, pool, rounded
from browsing.engine import Engine
from browsing.engines.local import LocalEngine
from browsing.engines.markov import MarkovEngine
from browsing.forecast import Forecaster, Options, Question
from training.dataset import Dataset, DatasetInfo, Sample, Split
from training.evaluation.forecasts import forecasts
from training.evaluation.loss import Loss, markov_nats, pairs, predictor_nats
from training.evaluation.result import Evaluation, Row, Settings
from training.evaluation.rows import Judgement, Site

Model = Literal["bundle", "markov"]
Session = tuple[str, ...]

BATCH = 256
"""Sessions encoded between two steps of the progress bar."""


class EvaluationError(ValueError):
    """A bundle and a dataset that cannot be evaluated together; the message says why."""


def _ignore(_: float) -> None:
    pass


async def evaluate_samples(
    engine: Engine,
    forecaster: Forecaster,
    samples: Sequence[Sample],
    questions: Sequence[Question],
    options: Options,
    site: Site,
    names: Sequence[str],
    *,
    calibration: Calibration | None = None,
    loss: Loss | None = None,
    concurrency: int = 64,
    advance: Callable[[float], None] = _ignore,
) -> tuple[tuple[Row, ...], Row]:
    """(a row per cluster with a user, the combined row); question i is about sample i, `names` are the clusters'.

    Raises what `forecasts` raises, and `ValueError` for no sample.
    """
    answers = await forecasts(engine, forecaster, questions, options, concurrency=concurrency, advance=advance)
    return Judgement.of(samples, questions, answers, site, calibration, loss).rows(names)


def evaluate(
    bundle: Bundle,
    dataset: Dataset,
    encoder: Encoder,
    *,
    split: Split = "test",
    model: Model = "bundle",
    users: int | None = None,
    options: Options | None = None,
    threads: int | None = None,
) -> Evaluation:
    """Evaluate a bundle, or its fallback (`model="markov"`), on a split. `options`: by default the bundle's decode.

    `users`: at most so many, drawn by the options' seed. Raises `EvaluationError` where the bundle, the encoder and the
    dataset do not belong together, or nobody is in the split.
    """
    manifest = bundle.manifest
    known = manifest.encoder
    if (encoder.weights_sha256, encoder.tokenizer_sha256) != (known.weights_sha256, known.tokenizer_sha256):
        raise EvaluationError(
            f"{bundle.root} was trained with another encoder ({known.name}) than the installed one: install the "
            "version of hetlm that trained it, or train again"
        )
    if dataset.rules.version != manifest.rule_version:
        raise EvaluationError(
            f"{dataset.root / 'pages.json'} is not the page rules of {bundle.root}: "
            "ingest the log with the bundle's own"
        )
    options = options or Options(decode=manifest.decode)
    stages = _Stages()
    with stages("read"):
        everybody = dataset.samples(split)
        if not everybody:
            raise EvaluationError(f"{dataset.root}: nobody is in the split {split!r}")
        samples = choose(everybody, users, options.seed)
    with stages("route"):
        questions = route(bundle, samples, encoder)
    with stages("loss"):
        loss = _loss(bundle, samples, questions, model)
    with stages("generate"):
        clusters, combined = asyncio.run(_generate(bundle, dataset, samples, questions, options, model, loss, threads))
    return Evaluation(
        bundle_version=manifest.version,
        dataset_sha256=fingerprint(dataset.info),
        method=manifest.training.method if model == "bundle" else "markov",
        settings=Settings(
            split=split,
            model=model,
            users=len(samples),
            of_users=len(everybody),
            decode=options.decode,
            samples=options.samples,
            seed=options.seed,
            max_steps=manifest.limits.max_steps,
            prompt_tokens=manifest.limits.prompt,
        ),
        clusters=clusters,
        combined=combined,
        seconds=stages.seconds,
    )


def choose(samples: Sequence[Sample], users: int | None, seed: int) -> list[Sample]:
    """At most `users` of the samples, drawn by `seed`, in their own order."""
    if users is None or users >= len(samples):
        return list(samples)
    drawn = np.random.default_rng(seed).choice(len(samples), users, replace=False)
    return [samples[place] for place in sorted(drawn.tolist())]


def route(bundle: Bundle, samples: Sequence[Sample], encoder: Encoder) -> list[Question]:
    """What the service would ask an engine about every visitor: the same embedding, selector and prompt."""
    manifest = bundle.manifest
    places: dict[Session, int] = {}
    for sample in samples:
        for session in sample.history:
            places.setdefault(session, len(places))
    vectors = _encode(list(places), encoder)
    z = np.stack([pool(vectors[[places[s] for s in sample.history]], manifest.encoder.decay) for sample in samples])
    clusters = bundle.selector.probabilities(torch.from_numpy(z)).argmax(1).tolist()
    return [
        Question(cluster, bundle.vocabulary.prompt(sample.history, manifest.limits.prompt).ids, sample.history)
        for cluster, sample in zip(clusters, samples, strict=True)
    ]


def fingerprint(info: DatasetInfo) -> str:
    """sha256 over the sorted (file, sha256) pairs of a dataset."""
    lines = "".join(f"{name}\0{sha256}\n" for name, sha256 in sorted(info.hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _encode(sessions: Sequence[Session], encoder: Encoder) -> Vectors:
    """float32 [n, d], rounded as the service's cache stores them; sessions of like length are encoded together."""
    vectors = np.zeros((len(sessions), encoder.dimension), np.float32)
    order = sorted(range(len(sessions)), key=lambda i: sum(map(len, sessions[i])))
    with progress("encoding sessions", len(sessions), "sessions") as advance:
        for start in range(0, len(sessions), BATCH):
            batch = order[start : start + BATCH]
            vectors[batch] = rounded(encoder.encode([sessions[i] for i in batch]))
            advance(len(batch))
    return vectors


def _loss(bundle: Bundle, samples: Sequence[Sample], questions: Sequence[Question], model: Model) -> Loss:
    scored, cut = pairs(
        [question.prompt for question in questions],
        [sample.next_session for sample in samples],
        bundle.vocabulary,
        bundle.manifest.limits.context,
    )
    with progress("scoring next sessions", len(samples), "users") as advance:
        if model == "markov":
            nats, tokens = markov_nats(bundle.fallback, scored, advance)
        else:
            clusters = [question.cluster for question in questions]
            nats, tokens = predictor_nats(bundle.predictors(), clusters, scored, advance)
    return Loss(nats, tokens, cut)


async def _generate(
    bundle: Bundle,
    dataset: Dataset,
    samples: Sequence[Sample],
    questions: Sequence[Question],
    options: Options,
    model: Model,
    loss: Loss,
    threads: int | None,
) -> tuple[tuple[Row, ...], Row]:
    manifest = bundle.manifest
    forecaster = Forecaster(bundle.vocabulary, bundle.outcome_ids(), bundle.reference, manifest.limits.max_steps)
    markov = model == "markov"
    engine: Engine = MarkovEngine(bundle.fallback) if markov else LocalEngine(bundle.predictors(), threads=threads)
    await engine.start()
    try:
        with progress("generating", len(samples), "users") as advance:
            return await evaluate_samples(
                engine,
                forecaster,
                samples,
                questions,
                options,
                _site(bundle, dataset, samples),
                [cluster.name for cluster in manifest.clusters],
                # The calibration was fitted to the predictors; it says nothing about the fallback's probabilities.
                calibration=None if markov else bundle.calibration,
                loss=loss,
                advance=advance,
            )
    finally:
        await engine.stop()


def _site(bundle: Bundle, dataset: Dataset, samples: Sequence[Sample]) -> Site:
    """Outcomes are the ones that the bundle can predict, and the ones that happened although it cannot."""
    happened = frozenset(page for sample in samples for page in sample.next_session)
    outcomes = {
        name: pages
        for name, pages in bundle.rules.outcome_pages().items()
        if name in bundle.manifest.outcomes or not happened.isdisjoint(pages)
    }
    return Site(bundle.vocabulary, frozenset(dataset.vocabulary().pages), outcomes)


class _Stages:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)
