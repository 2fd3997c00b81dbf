"""Writing the bundle: complete and verified beside its place, then moved there in one step."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from browsing.bundle import (
    MANIFEST,
    RETURNS,
    SHARED,
    EncoderInfo,
    Limits,
    Manifest,
    TrainingInfo,
    predictor_directory,
    seal,
)
from browsing.encoder import Vectors
from browsing.profiles import PROFILES
from training.card import model_card
from training.data import Split
from training.dataset import DatasetInfo, users_of
from training.heldout import Decisions, Held, decide
from training.hetlm.loop import Tuned
from training.journeys import generate_journeys, rare_sessions
from training.pipeline import Trained
from training.predictors import save_predictor
from training.profiles import clusters_of, prior_of, profiles_of, reference_of, shown_pages
from training.propensity import fit_propensity
from training.report.render import render
from training.report.story import DATASET, Story
from training.returns import fit_returns, return_metrics
from training.run import Run, write_json
from training.traffic import with_traffic
from training.training_log import TRAINING_LOG, TrainingLog

MIN_USERS = 5


def check_place(out: Path) -> None:
    """Raises `ValueError` unless `out` is free, an empty directory, or a bundle, which may be replaced."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ValueError(f"{out} is no directory: give --out a new place")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise ValueError(f"{out} is neither empty nor a bundle: give --out a new place")


def write_bundle(trained: Trained, run: Run, out: Path) -> Manifest:
    """Write, seal and verify the bundle at `out`; nothing is there, or the old one is, until it is whole."""
    check_place(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        manifest = _fill(partial, trained, run)
        swap(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def swap(partial: Path, out: Path) -> None:
    """Put the whole bundle `partial` into the place of `out`, where an older one may stand."""
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _fill(root: Path, trained: Trained, run: Run) -> Manifest:
    data, embedded, tuned, settings = trained.data, trained.embedded, trained.tuned, run.settings
    encoder = embedded.encoder
    vocabulary, outcomes = data.vocabulary, data.outcomes
    versions = tuned.system.versions
    limits = Limits(context=settings.context, max_steps=settings.max_steps)
    for k, version in enumerate(versions):
        save_predictor(trained.model, version.weights, vocabulary, predictor_directory(root, k))
    shutil.copytree(trained.shared, root / SHARED)  # byte for byte: it may be the encoder, which has a hash
    tuned.selector.save(root / "selector.safetensors")
    data.dataset.rules.save(root / "pages.json")
    (root / "fallback").mkdir()
    trained.mixture.save(root / "fallback")
    own = tuned.own
    reference = with_traffic(
        reference_of(data.train.samples, own, len(versions), vocabulary, outcomes), data, embedded, tuned.selector
    )
    min_users = _min_users(data.dataset.info)
    prior = prior_of(data.train.samples, vocabulary, outcomes, min_users)
    write_json(root / "reference.json", reference.model_dump(mode="json"))
    write_json(root / "prior.json", prior.model_dump(mode="json"))
    predictors = [predictor_directory(root, k) for k in range(len(versions))]
    decisions = decide(
        predictors,
        vocabulary,
        outcomes,
        reference,
        limits,
        _held(data.select, embedded.select, tuned),
        _held(data.calibrate, embedded.calibrate, tuned),
        settings.seed,
        fit_propensity(data.train.samples, outcomes, settings.seed),
    )
    decisions.calibration.save(root / "calibration.json")
    returns = fit_returns(data.dataset, settings.seed)
    if returns is not None:
        returns.save(root / RETURNS)
    recorded = rare_sessions(data.train.samples, min_users)
    shown = shown_pages(data.train.samples, own, len(versions), min_users)
    journeys = generate_journeys(predictors, vocabulary, limits, recorded, settings.seed, shown)
    profiles = profiles_of(data.train.samples, own, vocabulary, outcomes, journeys, min_users)
    write_json(root / PROFILES, profiles.model_dump(mode="json"))
    write_json(root / TRAINING_LOG, TrainingLog.of(run.records(), run.root.name).model_dump(mode="json"))
    write_json(root / DATASET, data.dataset.info.model_dump(mode="json"))
    manifest = Manifest(
        clusters=clusters_of(profiles, data.train.samples, own, vocabulary, outcomes),
        encoder=EncoderInfo.of(encoder, embedded.decay),
        rule_version=data.dataset.rules.version,
        vocabulary_sha256=vocabulary.sha256,
        vocabulary_size=len(vocabulary),
        outcomes=outcomes,
        limits=limits,
        decode=decisions.decode,
        training=_training(trained, run, data.dataset.info),
        metrics=_metrics(trained, decisions) | return_metrics(returns),
    )
    write_pages(root, manifest)
    return seal(root, manifest)


def write_pages(root: Path, manifest: Manifest) -> None:
    """The bundle's two pages for people, from the documents that are already in it."""
    story = Story.of(root, manifest)
    (root / "MODEL_CARD.md").write_text(model_card(story), encoding="utf-8")
    (root / "report.html").write_text(render(story), encoding="utf-8")


def _min_users(info: DatasetInfo) -> int:
    """Distinct users that a page needed to become a token; as many must a cluster's profile have seen on a page."""
    asked = info.filters.get("min_users")
    return asked if isinstance(asked, int) and asked > 0 else MIN_USERS


def _held(split: Split, z: Vectors, tuned: Tuned) -> Held:
    own = tuned.selector.probabilities(torch.from_numpy(z)).argmax(1).numpy()
    return Held(split.samples, own)


def _training(trained: Trained, run: Run, info: DatasetInfo) -> TrainingInfo:
    settings: dict[str, Any] = run.settings.model_dump(mode="json")
    samples = trained.data.train.samples
    return TrainingInfo(
        method=run.settings.method,
        seed=run.settings.seed,
        users=users_of(samples),
        samples=len(samples),
        window_start=info.window_start,
        window_end=info.window_end,
        settings=settings,
    )


def _metrics(trained: Trained, decisions: Decisions) -> dict[str, float]:
    """Validation figures: losses in nats per page, mean IoU of each decode, users behind them."""
    metrics = {f"validation_loss_{name}": loss for name, loss in trained.losses.items()}
    metrics |= {f"validation_iou_{name}": value for name, value in decisions.iou.items()}
    return metrics | {
        "validation_users": float(users_of(trained.data.select.samples)),
        "calibration_users": float(users_of(trained.data.calibrate.samples)),
    }
