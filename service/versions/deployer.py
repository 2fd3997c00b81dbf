"""One version's parts: what a bundle needs for itself to answer, over what all versions share."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from structlog.typing import FilteringBoundLogger

from browsing.bundle import Bundle
from browsing.encoder import Encoder
from browsing.engine import Engine
from browsing.engines.markov import MarkovEngine
from browsing.forecast import Forecaster
from service.engines.queueing import Queueing
from service.health import Health
from service.metrics import Metrics
from service.monitoring.monitoring import Monitoring
from service.pipeline import Pipeline
from service.resilience.admission import Admission, Entrance
from service.resilience.circuits import Circuits
from service.resilience.forecasts import Forecasts
from service.settings import Settings
from service.versions.deployment import Deployment, name_of
from service.versions.embedders import Embedders
from service.versions.warmup import warm_up


@dataclass(frozen=True, slots=True)
class Shared:
    """What all versions use together: the cache behind the embedders, the limit of predictions under way."""

    settings: Settings
    embedders: Embedders
    entrance: Entrance
    metrics: Metrics
    monitoring: Monitoring
    log: FilteringBoundLogger


@dataclass(frozen=True, slots=True)
class Makers:
    """What is made anew for a version. Both may block, and raise what does not fit (`ValueError`, `EngineError`)."""

    engine: Callable[[Bundle], Engine]
    encoder: Callable[[Bundle], Encoder]


class Deployer:
    """Makes deployments; nothing of one runs before its `Fleet` begins it."""

    def __init__(self, shared: Shared, makers: Makers) -> None:
        self._shared = shared
        self._makers = makers

    async def deploy(self, bundle: Bundle) -> Deployment:
        """Raises what the makers raise."""
        encoder = self._shared.embedders.encoder(bundle.manifest.encoder)
        if encoder is None:
            encoder = await asyncio.to_thread(self._makers.encoder, bundle)
        return self.assemble(bundle, self._makers.engine(bundle), encoder)

    def assemble(self, bundle: Bundle, engine: Engine, encoder: Encoder) -> Deployment:
        """Raises `ValueError` for a bundle that cannot be asked."""
        shared, settings, manifest = self._shared, self._shared.settings, bundle.manifest
        forecaster = Forecaster(
            bundle.vocabulary,
            bundle.outcome_ids(),
            bundle.reference,
            manifest.limits.max_steps,
            bundle.calibration.propensity,
        )
        lease = shared.embedders.lease(encoder, manifest.rule_version)
        log = shared.log.bind(bundle=manifest.version)
        metrics = shared.metrics.of_bundle(manifest, name_of(bundle))
        if isinstance(engine, Queueing):
            engine.on_wait(metrics.engine_queue())
        observer = shared.monitoring.watch(bundle)
        circuits = Circuits(engine, bundle.clusters, metrics, log, generator=random.Random(secrets.randbits(64)))
        health = Health(circuits, bundle.clusters, metrics, log, settings.probe_seconds)
        admission = Admission(bundle.clusters, shared.entrance)
        forecasts = Forecasts(
            manifest.version,
            forecaster,
            circuits,
            MarkovEngine(bundle.fallback),
            admission,
            lambda: health.starting,
            metrics,
            log,
        )
        pipeline = Pipeline(
            bundle, lease.embedder, forecasts, admission, metrics, log, settings.engine_deadline_ms / 1000, observer
        )
        warm = partial(warm_up, bundle, lease.embedder, forecaster, circuits)
        return Deployment(bundle, pipeline, health, warm, lease, (metrics.end, observer.remove), metrics)
