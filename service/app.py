"""The composition root: what the service is made of, and how its parts hold each other."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TextIO

from fastapi import FastAPI
from starlette.applications import Starlette
from structlog.typing import FilteringBoundLogger

from browsing.bundle import Bundle
from browsing.encoder import Encoder
from browsing.engine import Engine
from browsing.engines.markov import MarkovEngine
from browsing.forecast import Forecaster
from service import openapi, problems
from service.api import routes
from service.batch import Batch
from service.cache.embedder import Embedder
from service.cache.memory import MemoryStore
from service.cache.record import Keys
from service.cache.redis import RedisStore
from service.cache.store import Store
from service.console.routes import console_routes
from service.engines.revived import RevivedEngine
from service.health import Health
from service.jobs.home import HomeError
from service.jobs.jobs import Jobs
from service.jobs.meter import Meter
from service.jobs.routes import batch_routes
from service.jobs.worker import Rules, Served
from service.logs import logger
from service.metrics import Metrics
from service.observe import Observe
from service.pipeline import Pipeline
from service.resilience.admission import Admission
from service.resilience.circuits import Circuits
from service.resilience.forecasts import Forecasts
from service.scoring.inputs import limits_of
from service.scoring.online import Online
from service.scoring.scorer import Scorer
from service.security import access, admin
from service.security.guard import Guard
from service.security.headers import Headers
from service.security.key_file import KeyFileError, LiveKeys
from service.security.rates import Rate, Rates
from service.settings import Settings


class ConfigurationError(ValueError):
    """Settings that do not go with the bundle; the message names them and the remedy."""


@dataclass(frozen=True, slots=True)
class Service:
    """`app`: the main port. `metrics_app`: the metrics port. `admin_app`: the admin port, where there is one."""

    app: FastAPI
    metrics_app: Starlette
    admin_app: FastAPI
    pipeline: Pipeline
    bundle: Bundle
    health: Health
    log: FilteringBoundLogger


def load(settings: Settings) -> Bundle:
    """The verified bundle. Raises `BundleError`, `ConfigurationError`."""
    if settings.bundle is None:
        raise ConfigurationError("no bundle: name its directory (hetlm serve BUNDLE, or HETLM_BUNDLE)")
    return Bundle.load(settings.bundle, settings.bundle_version)


def choose_engine(settings: Settings, bundle: Bundle) -> Engine:
    """Raises `ConfigurationError`, and `EngineError` or `ValueError` where an adapter cannot be made."""
    size, context = bundle.manifest.vocabulary_size, bundle.manifest.limits.context
    if settings.engine == "vllm-server":
        from service.engines.vllm_server import VllmServerEngine

        if len(settings.engine_urls) != bundle.clusters:
            raise ConfigurationError(
                f"HETLM_ENGINE_URLS (--engine-url): {len(settings.engine_urls)} addresses for {bundle.clusters} "
                "clusters; give one per cluster, in their order"
            )
        key = settings.engine_api_key.get_secret_value() if settings.engine_api_key else None
        replicas = [[url.strip() for url in urls.split("|")] for urls in settings.engine_urls]
        return VllmServerEngine(replicas, size, context=context, api_key=key)
    if settings.engine == "vllm":
        from service.engines.vllm import VllmEngine

        return VllmEngine(bundle.predictors(), size, context=context)
    from browsing.engines.local import LocalEngine

    return RevivedEngine(lambda: LocalEngine(bundle.predictors(), threads=settings.threads))


def choose_store(settings: Settings) -> Store:
    """Redis where it is named, else this process. Raises `ConfigurationError`."""
    if settings.redis_url is None:
        return MemoryStore(settings.cache_max_entries, settings.cache_ttl_seconds)
    try:
        return RedisStore(
            settings.redis_url.get_secret_value(),
            ttl_seconds=settings.cache_ttl_seconds,
            ca_file=settings.redis_ca_file,
            timeout=settings.redis_timeout_ms / 1000,
            back_off=settings.redis_back_off_seconds,
        )
    except ValueError:  # its message may quote the password
        raise ConfigurationError(
            "HETLM_REDIS_URL (--redis-url) is malformed: redis://[user:password@]host[:port][/number], or unix:///path"
        ) from None


def choose_keys(settings: Settings, log: FilteringBoundLogger) -> LiveKeys | None:
    """None where none are asked for. Raises `ConfigurationError`."""
    if settings.api_keys_file is None:
        return None
    try:
        return LiveKeys(settings.api_keys_file, log)
    except KeyFileError as error:
        raise ConfigurationError(f"HETLM_API_KEYS_FILE (--api-keys-file): {error}") from None


def choose_jobs(
    settings: Settings, pipeline: Pipeline, online: Online, metrics: Metrics, log: FilteringBoundLogger
) -> Jobs | None:
    """None where no directory is named for them. Raises `ConfigurationError`."""
    if settings.batch_dir is None:
        return None
    manifest = pipeline.bundle.manifest
    scorer = Scorer(partial(pipeline.answer, patient=True), log, width=settings.batch_concurrency, turn=online.turn)
    try:
        return Jobs(
            settings.batch_dir,
            scorer,
            lambda: Served(manifest.version, tuple(pipeline.bundle.outcome_ids())),
            Rules(limits_of(settings), settings.batch_chunk_rows, settings.retention_hours),
            Meter(metrics.registry, online),
            log,
            most=settings.batch_max_unfinished,
        )
    except HomeError as error:
        raise ConfigurationError(f"HETLM_BATCH_DIR (--batch-dir): {error}") from None


def build(
    settings: Settings,
    bundle: Bundle,
    engine: Engine,
    encoder: Encoder,
    store: Store,
    *,
    stream: TextIO | None = None,
) -> Service:
    """Put the parts together; nothing is started. `stream`: where the log goes, by default stderr. Raises
    `ConfigurationError`."""
    log = logger(settings.log_level, stream)
    keys = choose_keys(settings, log)
    rates = Rates(Rate(settings.rate_per_second, settings.rate_burst))
    manifest = bundle.manifest
    metrics = Metrics(manifest.version, manifest.training.method, bundle.clusters, list(manifest.outcomes))
    secret = settings.cache_secret.get_secret_value().encode() if settings.cache_secret else secrets.token_bytes(32)
    embedder = Embedder(encoder, store, Keys(secret, encoder, manifest.rule_version), metrics)
    circuits = Circuits(engine, bundle.clusters, metrics, log, generator=random.Random(secrets.randbits(64)))
    health = Health(circuits, bundle.clusters, metrics, log, settings.probe_seconds)
    admission = Admission(bundle.clusters, most=settings.max_in_flight, patient=settings.batch_concurrency)
    forecasts = Forecasts(
        manifest.version,
        Forecaster(
            bundle.vocabulary,
            bundle.outcome_ids(),
            bundle.reference,
            manifest.limits.max_steps,
            bundle.calibration.propensity,
        ),
        circuits,
        MarkovEngine(bundle.fallback),
        admission,
        lambda: health.starting,
        metrics,
        log,
    )
    pipeline = Pipeline(bundle, embedder, forecasts, admission, metrics, log, settings.engine_deadline_ms / 1000)

    online = Online(patience=settings.batch_patience_seconds)
    jobs = choose_jobs(settings, pipeline, online, metrics, log)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with health.running():
            try:
                async with jobs.running(health.started) if jobs is not None else nullcontext():
                    yield
            finally:
                await embedder.close()

    app = FastAPI(title="hetlm", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    problems.install(app)
    app.include_router(
        routes(
            pipeline,
            Batch(partial(pipeline.answer, patient=True), metrics, log, settings.batch_concurrency),
            health,
            metrics,
            settings,
            online,
        )
    )
    app.include_router(console_routes(lambda: pipeline.bundle))
    if jobs is not None:
        app.include_router(batch_routes(jobs, settings))
    app.openapi = openapi.document(app, bundle)  # type: ignore[method-assign]
    metrics_app, admin_app = metrics.application(), admin.application(keys)
    for guarded, need in ((app, access.main_port), (admin_app, access.admin_port)):  # the last one added is outermost
        guarded.add_middleware(Guard, keys=keys, rates=rates, need=need, count=metrics.refused, log=log)
        guarded.add_middleware(Observe, metrics=metrics, log=log)
    for answering in (app, admin_app, metrics_app):
        answering.add_middleware(Headers)
    return Service(app, metrics_app, admin_app, pipeline, bundle, health, log)
