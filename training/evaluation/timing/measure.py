"""Inference time per configuration (HeTLM, Table 18), all of them in one run and taking turns.

Times of separate runs compare the machine's moods. Here every round gives each configuration one turn, in an order that
is reversed from round to round, and configurations are compared within their round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import safe_open

from browsing.bundle import SHARED, Bundle
from browsing.console import progress
from browsing.encoder import Encoder
from browsing.engine import Engine, GenerateRequest
from browsing.engine import Path as Sampled
from browsing.engines.local import LocalEngine
from browsing.forecast import Forecaster, Options, Question
from training.dataset import Dataset, Sample, Split
from training.evaluation.forecasts import forecasts
from training.evaluation.machine import machine
from training.evaluation.metrics.pages import Floats
from training.evaluation.routing import assign, pooled, questions
from training.evaluation.run import fingerprint
from training.evaluation.timing.result import EXTRAPOLATED, Timed, Timing
from training.evaluation.validation import choose

WARM_UP = 16
"""Questions answered before a turn is timed: the first pass through a model is slower than all others."""

Clock = Callable[[], float]


class TimingError(ValueError):
    """Configurations that cannot be timed side by side; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """What takes a turn. `questions` [users] name the clusters whose predictors stand in `directories`."""

    name: str
    kind: Literal["single", "bundle"]
    bundle: Bundle
    directories: tuple[Path, ...]
    forecaster: Forecaster
    questions: Sequence[Question]
    route_seconds: float | None


def configurations(
    bundles: Sequence[Bundle], samples: Sequence[Sample], encoder_of: Callable[[Bundle], Encoder], clock: Clock
) -> list[Configuration]:
    """Every distinct shared predictor as a single model, in the bundles' order, then every bundle.

    Raises `TimingError` where bundles differ in what the time depends on besides the models.
    """
    _check(bundles)
    singles: dict[tuple[str, ...], Configuration] = {}
    clustered = []
    names = _names(bundles)
    for bundle, name in zip(bundles, names, strict=True):
        steps, propensity = bundle.manifest.limits.max_steps, bundle.calibration.propensity
        weights = tuple(
            sorted(sha for file, sha in bundle.manifest.files.items() if file.startswith(f"{SHARED}/model"))
        )
        if weights not in singles:
            own = Forecaster(bundle.vocabulary, bundle.outcome_ids(), pooled(bundle.reference), steps, propensity)
            asked = questions(bundle, samples, [0] * len(samples))
            directories = (bundle.root / SHARED,)
            singles[weights] = Configuration(f"single ({name})", "single", bundle, directories, own, asked, None)
        own = Forecaster(bundle.vocabulary, bundle.outcome_ids(), bundle.reference, steps, propensity)
        encoder = encoder_of(bundle)
        encoder.encode(samples[0].history)  # the first call is slower than all others
        started = clock()
        clusters = assign(bundle, samples, encoder)
        route = clock() - started
        asked = questions(bundle, samples, clusters)
        clustered.append(Configuration(name, "bundle", bundle, tuple(bundle.predictors()), own, asked, route))
    if len(singles) == 1:
        (only,) = singles.values()
        return [_named(only, "single"), *clustered]
    return [*singles.values(), *clustered]


def timing(
    bundles: Sequence[Bundle],
    dataset: Dataset,
    encoder_of: Callable[[Bundle], Encoder],
    *,
    split: Split = "test",
    users: int = 500,
    rounds: int = 3,
    options: Options,
    threads: int | None = None,
    concurrency: int = 64,
    clock: Clock = time.perf_counter,
) -> Timing:
    """Time the embedded engine on at most `users` samples of `split`, drawn by the options' seed, `rounds` times.

    A turn loads its models, answers `WARM_UP` questions, and only then is timed, from the first question to the last
    answer. Raises `TimingError` where nobody is in the split or the
    bundles cannot be compared, and what an engine raises.
    """
    everybody = dataset.samples(split)
    if not everybody:
        raise TimingError(f"{dataset.root}: nobody is in the split {split!r}")
    for bundle in bundles:
        if bundle.manifest.rule_version != dataset.rules.version:
            raise TimingError(f"{dataset.root / 'pages.json'} is not the page rules of {bundle.root}")
    if threads is not None:
        torch.set_num_threads(threads)
    samples = choose(everybody, users, options.seed)
    timed = configurations(bundles, samples, encoder_of, clock)
    seconds = np.zeros((len(timed), rounds))
    tokens = [0] * len(timed)
    with progress("timing", len(timed) * rounds * len(samples), "users") as advance:
        for turn in range(rounds):
            # Whatever drifts within a round, the other direction undoes in the next.
            for place in range(len(timed))[:: 1 if turn % 2 == 0 else -1]:
                spent = _turn(timed[place], options, threads, concurrency, advance, clock)
                seconds[place, turn], tokens[place] = spent
    return Timing(
        dataset=dataset.root.resolve().name,
        dataset_sha256=fingerprint(dataset.info),
        split=split,
        users=len(samples),
        rounds=rounds,
        samples=options.samples,
        sets=1 + len(timed[0].forecaster.outcomes),
        seed=options.seed,
        max_steps=bundles[0].manifest.limits.max_steps,
        concurrency=concurrency,
        machine=machine(),
        configurations=tuple(
            _timed(one, own, own / seconds[0], count, len(samples))
            for one, own, count in zip(timed, seconds, tokens, strict=True)
        ),
    )


def parameters(directory: Path) -> int:
    """Of the model in a Hugging Face directory, by its weights' headers; tied ones stand there once, and count once."""
    total = 0
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            total += sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118
    return total


class _Counting:
    """An engine that counts the tokens it hands out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.tokens = 0

    async def start(self) -> None:
        await self._engine.start()

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        paths = await self._engine.generate(request)
        self.tokens += sum(len(path.tokens) for path in paths)
        return paths

    async def healthy(self) -> dict[int, bool]:
        return await self._engine.healthy()

    async def stop(self) -> None:
        await self._engine.stop()


def _turn(
    one: Configuration,
    options: Options,
    threads: int | None,
    concurrency: int,
    advance: Callable[[float], None],
    clock: Clock,
) -> tuple[float, int]:
    """(seconds, tokens) of one pass over the configuration's questions."""

    async def run() -> tuple[float, int]:
        engine = _Counting(LocalEngine(one.directories, threads=threads))
        await engine.start()
        try:
            # Across all clusters: each predictor is warmed up.
            warm = one.questions[:: max(1, len(one.questions) // WARM_UP)]
            await forecasts(engine, one.forecaster, warm, options, concurrency=concurrency)
            engine.tokens = 0
            started = clock()
            await forecasts(engine, one.forecaster, one.questions, options, concurrency=concurrency, advance=advance)
            return clock() - started, engine.tokens
        finally:
            await engine.stop()

    return asyncio.run(run())


def _timed(one: Configuration, seconds: Floats, ratios: Floats, tokens: int, users: int) -> Timed:
    sizes = [parameters(directory) for directory in one.directories]
    return Timed(
        name=one.name,
        kind=one.kind,
        bundle_version=one.bundle.manifest.version,
        method="single" if one.kind == "single" else one.bundle.manifest.training.method,
        models=len(sizes),
        parameters=sizes[0],
        total_parameters=sum(sizes),
        seconds=tuple(seconds.tolist()),
        ratios=tuple(ratios.tolist()),
        extrapolated_seconds=float(seconds.mean()) * EXTRAPOLATED / users,
        tokens=tokens,
        route_seconds=one.route_seconds,
    )


def _check(bundles: Sequence[Bundle]) -> None:
    """The same users through the same options cost the same work only where these agree."""
    if not bundles:
        raise TimingError("there is no bundle to time")
    first = bundles[0]
    for bundle in bundles[1:]:
        ours, theirs = bundle.manifest, first.manifest
        for what, own, other in (
            ("vocabulary", ours.vocabulary_sha256[:12], theirs.vocabulary_sha256[:12]),
            ("longest next session", ours.limits.max_steps, theirs.limits.max_steps),
            ("longest prompt", ours.limits.prompt, theirs.limits.prompt),
            ("set of outcomes", ", ".join(ours.outcomes), ", ".join(theirs.outcomes)),
        ):
            if own != other:
                raise TimingError(
                    f"{bundle.root} has another {what} ({own}) than {first.root} ({other}): train both on the same "
                    "dataset and with the same limits"
                )


def _names(bundles: Sequence[Bundle]) -> list[str]:
    """Directory names, or whole paths where two are called alike."""
    names = [bundle.root.resolve().name for bundle in bundles]
    return names if len(set(names)) == len(names) else [str(bundle.root) for bundle in bundles]


def _named(one: Configuration, name: str) -> Configuration:
    return Configuration(name, one.kind, one.bundle, one.directories, one.forecaster, one.questions, one.route_seconds)
