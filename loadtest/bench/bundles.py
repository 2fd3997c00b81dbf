"""Bundles to measure: complete, sealed, of random weights, over one vocabulary, whatever K and size are asked for.

The selector is random, too, and then balanced over the workload: every cluster is asked for about as often, which is
the hardest mix for an engine that batches by cluster.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from browsing.bundle import (
    FALLBACK,
    MANIFEST,
    SHARED,
    ClusterInfo,
    EncoderInfo,
    Limits,
    Manifest,
    Prior,
    Reference,
    TrainingInfo,
    predictor_directory,
    seal,
)
from browsing.calibration import Calibration, OutcomeCalibration
from browsing.encoder import DECAY, pool, rounded
from browsing.pages import PageRules
from browsing.vocabulary import Vocabulary
from loadtest.bench import predictors
from loadtest.bench.errors import BenchError
from loadtest.bench.predictors import Size
from loadtest.bench.workload import Workload

FITTED_ON = 48
"""Prompts on which a predictor's sessions get their length."""
_CASES = 400
"""That the calibration pretends to rest on: it is applied as a real one is."""


@dataclass(frozen=True, slots=True)
class Language:
    """What all bundles of a run have in common."""

    vocabulary: Vocabulary
    rules: PageRules
    context: int
    max_steps: int


def language(dataset: Path, *, context: int, max_steps: int) -> Language:
    """A dataset's. Raises `BenchError`."""
    try:
        pages = pl.read_parquet(dataset / "pages.parquet", columns=["page"], glob=False)["page"].to_list()
        return Language(Vocabulary(pages), PageRules.load(dataset / "pages.json"), context, max_steps)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise BenchError(f"{dataset} is no dataset of `hetlm ingest` ({type(error).__name__})") from None


def write(root: Path, spoken: Language, workload: Workload, clusters: int, size: Size, *, seed: int = 0) -> Manifest:
    """A bundle at `root`, in the place of one that is there."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    words = spoken.vocabulary
    histories = [person.sessions for person in workload.people]
    limits = Limits(context=spoken.context, max_steps=spoken.max_steps)
    prompts = [words.prompt(history, limits.prompt).ids for history in histories[:FITTED_ON]]
    for k in range(clusters):
        predictors.write(predictor_directory(root, k), words, size, spoken.context, prompts, seed=seed + k)
    shutil.copytree(predictor_directory(root, 0), root / SHARED)
    encoder = _encoder(root, words, histories, seed)
    _selector(root / "selector.safetensors", encoder, histories, clusters, seed)
    outcomes = {
        name: tuple(page for page in pages if page in words) for name, pages in spoken.rules.outcome_pages().items()
    }
    outcomes = {name: pages for name, pages in outcomes.items() if pages}
    _small_parts(root, spoken, histories, clusters, outcomes)
    return seal(
        root,
        Manifest(
            clusters=tuple(
                ClusterInfo(id=k, name=f"kind {k}", share=1 / clusters, typical_pages=words.pages[:3])
                for k in range(clusters)
            ),
            encoder=EncoderInfo.of(encoder, DECAY),
            rule_version=spoken.rules.version,
            vocabulary_sha256=words.sha256,
            vocabulary_size=len(words),
            outcomes=outcomes,
            limits=limits,
            training=TrainingInfo(
                method="random",
                seed=seed,
                users=len(histories),
                samples=len(histories),
                window_start="2026-01-01T00:00:00+00:00",
                window_end="2026-01-02T00:00:00+00:00",
                settings={},
            ),
            metrics={},
        ),
    )


def there(root: Path) -> bool:
    return (root / MANIFEST).is_file()


def _encoder(root: Path, words: Vocabulary, histories: Sequence[Sequence[Sequence[str]]], seed: int) -> Any:
    from browsing.encoders.markov import MarkovEncoder
    from browsing.markov import MarkovMixture

    ids = [[words.session(pages) for pages in history] for history in histories]
    MarkovMixture.fit(ids, len(words), 4, seed=seed, iterations=5, restarts=1).save(root / FALLBACK)
    return MarkovEncoder(root / FALLBACK, words)


def _selector(path: Path, encoder: Any, histories: Sequence[Sequence[Sequence[str]]], clusters: int, seed: int) -> None:
    import torch

    from browsing.selector import Selector

    z = torch.from_numpy(np.stack([pool(rounded(encoder.encode(history)), DECAY) for history in histories]))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        selector = Selector(encoder.dimension, clusters)
        selector.standardise(z)
        step = float(selector(z).std())
        for _ in range(200):
            shares = torch.bincount(selector(z).argmax(-1), minlength=clusters) / len(z)
            selector.output.bias.sub_(step * (shares - 1 / clusters))
            step *= 0.98
    selector.save(path)


def _small_parts(
    root: Path,
    spoken: Language,
    histories: Sequence[Sequence[Sequence[str]]],
    clusters: int,
    outcomes: dict[str, tuple[str, ...]],
) -> None:
    spoken.rules.save(root / "pages.json")
    views = Counter(page for history in histories for session in history for page in session)
    shares = {page: count / views.total() for page, count in views.items() if page in spoken.vocabulary}
    rates = dict.fromkeys(outcomes, 0.05)
    first = tuple(page for page in histories[0][0] if page in spoken.vocabulary)
    prior = Prior(next_session=first, pages=(), outcomes=rates, sessions=len(histories))
    (root / "prior.json").write_text(prior.model_dump_json(indent=2))
    reference = Reference(cluster_shares=(1 / clusters,) * clusters, pages=(shares,) * clusters, outcome_rates=rates)
    (root / "reference.json").write_text(reference.model_dump_json(indent=2))
    line = OutcomeCalibration(
        method="platt",
        covariance=(0.01, 0.0, 0.01),
        n=_CASES,
        positives=_CASES // 10,
        users=_CASES,
        calibrated=True,
    )
    Calibration(outcomes=dict.fromkeys(outcomes, line)).save(root / "calibration.json")
    (root / "MODEL_CARD.md").write_text("# Random weights, for measuring speed\n")
    (root / "report.html").write_text("<!doctype html><title>Random weights, for measuring speed</title>\n")
