"""The composition root: what the service is made of, and how its parts hold each other."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TextIO

from fastapi import FastAPI
from starlette.applications import Starlette
from structlog.typing import FilteringBoundLogger

from browsing.bundle import Bundle
from browsing.encoder import Encoder
from browsing.engine import Engine
from browsing.engines.markov import MarkovEngine
from service import openapi, problems
from service.api import routes
from service.batch import Batch
from service.cache.embedder import Embedder
from service.cache.memory import MemoryStore
from service.cache.record import Keys
from service.cache.redis import RedisStore
from service.cache.store import Store
from service.health import Health
from service.logs import logger
from service.metrics import Metrics
from service.observe import Observe
from service.pipeline import Pipeline
from service.settings import Settings


class ConfigurationError(ValueError):
    """Settings that do not go with the bundle; the message names them and the remedy."""


@dataclass(frozen=True, slots=True)
class Service:
    """`app`: the main port. `metrics_app`: the metrics port."""

    app: FastAPI
    metrics_app: Starlette
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
        return VllmServerEngine(settings.engine_urls, size, context=context, api_key=key)
    if settings.engine == "vllm":
        from service.engines.vllm import VllmEngine

        return VllmEngine(bundle.predictors(), size, context=context)
    from browsing.engines.local import LocalEngine

    return LocalEngine(bundle.predictors(), threads=settings.threads)


def choose_store(settings: Settings) -> Store:
    """Redis where it is named, else this process. Raises `ConfigurationError`."""
    if settings.redis_url is None:
        return MemoryStore(settings.cache_max_entries, settings.cache_ttl_seconds)
    try:
        return RedisStore(
            settings.redis_url.get_secret_value(),
            ttl_seconds=settings.cache_ttl_seconds,
            timeout=settings.redis_timeout_ms / 1000,
            back_off=settings.redis_back_off_seconds,
        )
    except ValueError:  # its message may quote the password
        raise ConfigurationError(
            "HETLM_REDIS_URL (--redis-url) is malformed: redis://[user:password@]host[:port][/number], or unix:///path"
        ) from None


def build(
    settings: Settings,
    bundle: Bundle,
    engine: Engine,
    encoder: Encoder,
    store: Store,
    *,
    stream: TextIO | None = None,
) -> Service:
    """Put the parts together; nothing is started. `stream`: where the log goes, by default stderr."""
    log = logger(settings.log_level, stream)
    manifest = bundle.manifest
    metrics = Metrics(manifest.version, manifest.training.method, bundle.clusters, list(manifest.outcomes))
    secret = settings.cache_secret.get_secret_value().encode() if settings.cache_secret else secrets.token_bytes(32)
    embedder = Embedder(encoder, store, Keys(secret, encoder, manifest.rule_version), metrics)
    health = Health(engine, bundle.clusters, metrics, log, settings.probe_seconds)
    pipeline = Pipeline(
        bundle,
        embedder,
        engine,
        MarkovEngine(bundle.fallback),
        health,
        metrics,
        log,
        settings.engine_deadline_ms / 1000,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with health.running():
            try:
                yield
            finally:
                await embedder.close()

    app = FastAPI(title="hetlm", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Observe, metrics=metrics, log=log)
    problems.install(app)
    app.include_router(
        routes(pipeline, Batch(pipeline.answer, metrics, log, settings.batch_concurrency), health, metrics, settings)
    )
    app.openapi = openapi.document(app, bundle)  # type: ignore[method-assign]
    return Service(app, metrics.application(), bundle, health, log)
