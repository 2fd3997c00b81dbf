"""An evaluation: forecast every visitor as the service does, and compare with what happened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
from rich.markup import escape

from browsing.bundle import Bundle
from browsing.calibration import Calibration
from browsing.console import STDERR
from browsing.encoder import Encoder
from browsing.encoders.of_bundle import check_encoder
from browsing.encoders.sbert import SbertEncoder
from browsing.engine import Engine
from browsing.forecast import Forecaster, Options, Question
from browsing.hashing import file_sha256
from browsing.whole import whole, write_whole
from training.dataset import INFO, Dataset, DatasetInfo, Sample, Split
from training.evaluation.forecasts import decoded_forecasts, silent
from training.evaluation.machine import Stages, machine, peak_memory_mib
from training.evaluation.metrics.bootstrap import RESAMPLES
from training.evaluation.metrics.loss import Loss
from training.evaluation.metrics.text import TextScores
from training.evaluation.models import OWN, BundleModel, Forecasts, baseline_forecasts
from training.evaluation.result import Decode, Evaluation, Row, Settings
from training.evaluation.returning import RETURN_USERS, Followed, measure
from training.evaluation.routing import assign
from training.evaluation.rows import Judgement, Site
from training.evaluation.summary import Sampling, rows
from training.evaluation.users import per_user, users_path
from training.evaluation.validation import (
    THRESHOLD_USERS,
    calibrate,
    calibration_cases,
    choose,
    held,
    thresholds,
)


class EvaluationError(ValueError):
    """A bundle and a dataset that cannot be evaluated together; the message says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to evaluate, and how. `users`: at most so many next sessions, drawn by the options' seed. `resamples`:
    behind every interval; 0 for none. `validation`: users that thresholds are chosen on; 0 for no thresholds.
    `bert`: BERTScore too, which needs an extra and minutes. `returning`: users forecast for outcomes within the
    horizon, whether they came back or not; 0 for none."""

    split: Split = "test"
    model: str = "bundle"
    users: int | None = None
    options: Options | None = None
    threads: int | None = None
    resamples: int = RESAMPLES
    validation: int = THRESHOLD_USERS
    bert: bool = False
    returning: int = RETURN_USERS


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
    advance: Callable[[float], None] = silent,
) -> tuple[tuple[Row, ...], Row]:
    """(a row per cluster with a user, the combined row); question i is about sample i, `names` are the clusters'.

    No intervals and no thresholds. Raises what `forecasts` raises, and `ValueError` for no sample.
    """
    answers = await decoded_forecasts(engine, forecaster, questions, options, concurrency=concurrency, advance=advance)
    judgement = Judgement.of(
        samples,
        [question.cluster for question in questions],
        answers,
        site,
        decode=options.decode,
        calibration=calibration,
        loss=loss,
    )
    return rows(judgement, names)


def evaluate(
    bundle: Bundle,
    dataset: Dataset,
    encoder: Encoder | None,
    *,
    split: Split = "test",
    model: str = "bundle",
    users: int | None = None,
    options: Options | None = None,
    threads: int | None = None,
) -> Evaluation:
    """The document of `evaluation`, for a plan given in words."""
    return evaluation(bundle, dataset, encoder, Plan(split, model, users, options, threads))[0]


def evaluation(
    bundle: Bundle, dataset: Dataset, encoder: Encoder | None, plan: Plan
) -> tuple[Evaluation, pl.DataFrame]:
    """Evaluate a bundle, one of its parts, or a baseline on a split: (the document, the per-user values).

    `encoder`: needed by the model `bundle`; the others have rows per cluster of the bundle if it is given, and the
    combined row alone if not. A baseline is fitted on the dataset's own training users; the bundle lends it nothing but
    the page rules. Raises `EvaluationError` or `BundleError` where things do not belong together, `EvaluationError`
    where the model is unknown or nobody is in the split.
    """
    _check(bundle, dataset, encoder, plan.model)
    options = plan.options or Options(decode=bundle.manifest.decode)
    stages = Stages()
    with stages("read"):
        everybody = _samples(dataset, plan.split)
        samples = choose(everybody, plan.users, options.seed)
        validation = held(dataset, ("select", "calibrate"), plan.split, plan.validation, options.seed)
        refit = plan.model != "bundle" and plan.validation > 0
        calibrating = calibration_cases(dataset, plan.split) if refit else []
        # Of the others it would say nothing: what is answered about time is the bundle's.
        returns = bundle.returns if plan.model == "bundle" else None
        followed = Followed()
        if returns is not None:
            followed = Followed.of(dataset, returns, plan.split, plan.returning, options.seed)
    groups = [samples, validation, calibrating, followed.cases]
    with stages("route"):
        clusters = [assign(bundle, group, encoder) if encoder and group else [0] * len(group) for group in groups]
    forecasts = _forecasts(bundle, dataset, groups, clusters, plan, options, stages)
    with stages("judge"):
        site = _site(bundle, dataset, samples, plan.model)
        # The bundle's calibration was fitted to its predictors; it says nothing about another model's probabilities.
        own = plan.model == "bundle"
        calibration = bundle.calibration if own else calibrate(forecasts.answers[2], calibrating, site)
        decode: Decode = options.decode if plan.model in OWN else "own"
        judgement = Judgement.of(
            samples,
            clusters[0],
            forecasts.answers[0],
            site,
            decode=decode,
            calibration=calibration,
            thresholds=thresholds(forecasts.answers[1], validation, site, calibration),
            loss=forecasts.loss,
            text=partial(TextScores.of, encoder=SbertEncoder() if plan.bert else None),
        )
        names = [cluster.name for cluster in bundle.manifest.clusters] if encoder else []
        sampling = Sampling(plan.resamples, options.seed)
        per_cluster, combined = rows(judgement, names, sampling)
        within = None
        if returns is not None:
            answers = next(iter(forecasts.answers[3].values()))
            within = measure(dataset, returns, plan.split, followed, answers, calibration, sampling)
        sha256 = fingerprint(dataset.info)
        frame = per_user(judgement, samples, sha256)
    trained = plan.model in OWN
    manifest = bundle.manifest
    document = Evaluation(
        bundle_version=manifest.version,
        dataset=dataset.root.resolve().name,
        dataset_sha256=sha256,
        vocabulary_sha256=site.vocabulary.sha256,
        method=manifest.training.method if plan.model == "bundle" else plan.model,
        seed=manifest.training.seed if trained else options.seed,
        training=manifest.training.settings if trained else {},
        settings=Settings(
            split=plan.split,
            model=plan.model,
            users=len(samples),
            of_users=len(everybody),
            decode=decode,
            samples=options.samples,
            seed=options.seed,
            max_steps=manifest.limits.max_steps,
            prompt_tokens=manifest.limits.prompt,
            resamples=plan.resamples,
            validation_users=len(validation),
            calibration_users=len(calibrating),
            return_users=len(followed.cases),
        ),
        clusters=per_cluster,
        combined=combined,
        returns=within,
        machine=machine(),
        peak_memory_mib=peak_memory_mib(),
        seconds=stages.seconds,
    )
    return document, frame


def write(document: Evaluation, per_user: pl.DataFrame, out: Path) -> Evaluation:
    """Write the document to `out` and the per-user values beside it; returns the document, which then names them."""
    with whole(users_path(out)) as partial:
        per_user.write_parquet(partial, compression="zstd")
        named = document.model_copy(update={"users_sha256": file_sha256(partial)})
    write_whole(out, named.model_dump_json(indent=2) + "\n")
    return named


def fingerprint(info: DatasetInfo) -> str:
    """sha256 over the sorted (file, sha256) pairs of a dataset."""
    lines = "".join(f"{name}\0{sha256}\n" for name, sha256 in sorted(info.hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _check(bundle: Bundle, dataset: Dataset, encoder: Encoder | None, model: str) -> None:
    if encoder is not None:
        check_encoder(bundle, encoder)
    elif model == "bundle":
        raise EvaluationError("the bundle's predictors cannot be evaluated without an encoder")
    if dataset.rules.version != bundle.manifest.rule_version:
        raise EvaluationError(
            f"{dataset.root / 'pages.json'} is not the page rules of {bundle.root}: "
            "ingest the log with the bundle's own"
        )
    trained = bundle.root / INFO
    if model == "bundle" and trained.is_file():
        known = DatasetInfo.model_validate_json(trained.read_text()).hashes
        if known.get("train.parquet") != dataset.info.hashes.get("train.parquet"):
            STDERR.print(
                f"[yellow]warning:[/] {escape(str(bundle.root))} was trained on another dataset than "
                f"{escape(str(dataset.root))}: if they share users, test users may have trained it"
            )


def _samples(dataset: Dataset, split: Split) -> list[Sample]:
    samples = dataset.samples(split)
    if not samples:
        raise EvaluationError(f"{dataset.root}: nobody is in the split {split!r}")
    return samples


def _forecasts(
    bundle: Bundle,
    dataset: Dataset,
    groups: Sequence[Sequence[Sample]],
    clusters: Sequence[Sequence[int]],
    plan: Plan,
    options: Options,
    stages: Stages,
) -> Forecasts:
    if plan.model in OWN:
        return BundleModel(plan.model, bundle, options, plan.threads).forecasts(groups, clusters, stages)
    try:
        return baseline_forecasts(plan.model, dataset, groups, options.seed, stages)
    except ValueError as error:
        raise EvaluationError(str(error)) from error


def _site(bundle: Bundle, dataset: Dataset, samples: Sequence[Sample], model: str) -> Site:
    """Outcomes are the ones that the model can predict, and the ones that happened although it cannot."""
    own = model in OWN
    predictable = bundle.manifest.outcomes if own else dataset.outcomes()
    happened = frozenset(page for sample in samples for page in sample.next_session)
    outcomes = {
        name: pages
        for name, pages in bundle.rules.outcome_pages().items()
        if name in predictable or not happened.isdisjoint(pages)
    }
    vocabulary = dataset.vocabulary()
    return Site(bundle.vocabulary if own else vocabulary, frozenset(vocabulary.pages), outcomes)
