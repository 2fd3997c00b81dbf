"""The composition root: what the service is made of, and how its parts hold each other."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TextIO

from fastapi import FastAPI
from starlette.applications import Starlette
from structlog.typing import FilteringBoundLogger

from browsing.bundle import Bundle
from browsing.encoder import Encoder
from browsing.encoders.of_bundle import encoder_of
from browsing.engine import Engine
from service import openapi, problems
from service.api import routes
from service.batch import Batch
from service.cache.memory import MemoryStore
from service.cache.redis import RedisStore
from service.cache.store import Store
from service.console.routes import console_routes
from service.cores import encoder_threads, engine_threads
from service.engines.supervised import SupervisedEngine
from service.health import Readiness
from service.jobs.jobs import Jobs
from service.jobs.meter import Meter
from service.jobs.routes import batch_routes
from service.jobs.rules import Rules
from service.jobs.storage import StorageError
from service.logs import logger
from service.metrics import Metrics
from service.monitoring.monitoring import Monitoring
from service.observe import Observe
from service.pipeline import Pipeline
from service.reclaim import Reclaim, glibc_trim
from service.resilience.admission import Entrance
from service.scoring.inputs import limits_of
from service.scoring.online import Online
from service.scoring.scorer import Scorer
from service.scoring.served import Served
from service.security import access, admin
from service.security.guard import Guard
from service.security.headers import Headers
from service.security.key_file import KeyFileError
from service.security.live_keys import LiveKeys
from service.security.rates import Rate, Rates
from service.settings import Settings
from service.versions.deployer import Deployer, Makers, Shared
from service.versions.embedders import Embedders
from service.versions.fleet import Fleet
from service.versions.memory import Memory, StartError, first, first_canary
from service.versions.registry import Registry
from service.versions.rollout import Limits, Rollouts
from service.versions.router import Router
from service.versions.routes import bundle_routes
from service.versions.split import split_of


class ConfigurationError(ValueError):
    """Settings that do not go with the bundle; the message names them and the remedy."""


@dataclass(frozen=True, slots=True)
class Service:
    """`app`: the main port. `metrics_app`: the metrics port. `admin_app`: the admin port, where there is one."""

    app: FastAPI
    metrics_app: Starlette
    admin_app: FastAPI
    router: Router
    health: Readiness
    log: FilteringBoundLogger
    rollouts: Rollouts | None = None

    def leave(self) -> None:
        """The end is near: what comes is still answered, but the service is not ready, and no other bundle takes over
        any more."""
        self.health.drain()
        if self.rollouts is not None:
            self.rollouts.close()

    @property
    def bundle(self) -> Bundle:
        """The one that is served now."""
        return self.router.serving.bundle

    @property
    def pipeline(self) -> Pipeline:
        """Of the bundle that is served now."""
        return self.router.serving.pipeline


def load(settings: Settings) -> Bundle:
    """The verified bundle to start with. Raises `BundleError`, `ConfigurationError`."""
    if settings.bundles is not None:
        try:
            found = first(Registry(settings.bundles), Memory(settings.bundles), settings.bundle_version)
        except StartError as error:
            raise ConfigurationError(str(error)) from None
        return Bundle.load(found.root, found.version)
    if settings.bundle is None:
        raise ConfigurationError(
            "no bundle: name its directory (hetlm serve BUNDLE, or HETLM_BUNDLE), or a folder of bundles (--bundles)"
        )
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
    if settings.engine == "vllm-stacked":
        from service.engines.stacked.engine import StackedVllmEngine

        try:
            return StackedVllmEngine(bundle.predictors(), size, context=context)
        except ValueError as error:
            raise ConfigurationError(f"HETLM_ENGINE (--engine vllm-stacked): {error}") from None
    from browsing.engines.local import LocalEngine

    return SupervisedEngine(lambda: LocalEngine(bundle.predictors(), threads=engine_threads(settings)))


def choose_encoder(settings: Settings, bundle: Bundle) -> Encoder:
    """Raises `BundleError` where it is not the one that the bundle was trained with, or cannot be loaded."""
    return encoder_of(bundle, settings.encoder)


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
    settings: Settings, router: Router, online: Online, metrics: Metrics, log: FilteringBoundLogger
) -> Jobs | None:
    """None where no directory is named for them. Raises `ConfigurationError`."""
    if settings.batch_dir is None:
        return None

    def served() -> Served:
        now = router.serving  # a file is of one version: no canary has a part in it
        return Served(now.version, tuple(now.bundle.outcome_ids()), now.answer_row)

    scorer = Scorer(log, width=settings.batch_concurrency, turn=online.turn)
    try:
        return Jobs(
            settings.batch_dir,
            scorer,
            served,
            Rules(limits_of(settings), settings.batch_chunk_rows, settings.retention_hours),
            Meter(metrics.registry, online),
            log,
            most=settings.batch_max_unfinished,
        )
    except StorageError as error:
        raise ConfigurationError(f"HETLM_BATCH_DIR (--batch-dir): {error}") from None


def choose_rollouts(
    settings: Settings, router: Router, fleet: Fleet, deployer: Deployer, metrics: Metrics, log: FilteringBoundLogger
) -> Rollouts | None:
    """None where no folder of bundles is named."""
    if settings.bundles is None:
        return None
    remote = (
        "The servers at HETLM_ENGINE_URLS hold the predictors of one bundle: start servers of the new one, and beside "
        "this service a second one with their addresses (docs/bundles.md)."
    )
    return Rollouts(
        router,
        fleet,
        Registry(settings.bundles),
        Memory(settings.bundles),
        deployer.deploy,
        Limits(settings.rollout_seconds, settings.drain_seconds),
        metrics,
        log,
        refusal=remote if settings.engine == "vllm-server" else None,
    )


def choose_canary(settings: Settings, served: str) -> tuple[str, float] | None:
    """The canary to start beside the version `served`, and its share. Raises `ConfigurationError`."""
    if settings.bundles is None or settings.engine == "vllm-server":
        return None
    asked = split_of(settings.canary) if settings.canary is not None else None
    try:
        return first_canary(Registry(settings.bundles), Memory(settings.bundles), asked, served)
    except StartError as error:
        raise ConfigurationError(str(error)) from None


def build(
    settings: Settings,
    bundle: Bundle,
    engine: Engine,
    encoder: Encoder,
    store: Store,
    *,
    stream: TextIO | None = None,
    makers: Makers | None = None,
) -> Service:
    """Put the parts together; nothing is started. `stream`: where the log goes, by default stderr. `makers`: of the
    parts of further bundles, by default as the settings say. Raises `ConfigurationError`."""
    # What all versions share.
    log = logger(settings.log_level, stream)
    keys = choose_keys(settings, log)
    rates = Rates(Rate(settings.rate_per_second, settings.rate_burst))
    metrics = Metrics()
    monitoring = Monitoring(metrics.registry, settings.drift_half_life_hours * 3_600)
    secret = settings.cache_secret.get_secret_value().encode() if settings.cache_secret else secrets.token_bytes(32)
    embedders = Embedders(store, secret, metrics, encoder_threads(settings))
    entrance = Entrance(most=settings.max_in_flight, patient=settings.batch_concurrency)
    online = Online(patience=settings.batch_patience_seconds)

    # The version to start with, and how others join it.
    makers = makers or Makers(partial(choose_engine, settings), partial(choose_encoder, settings))
    deployer = Deployer(Shared(settings, embedders, entrance, metrics, monitoring, log), makers)
    router = Router(deployer.assemble(bundle, engine, encoder))
    fleet = Fleet(log)
    rollouts = choose_rollouts(settings, router, fleet, deployer, metrics, log)
    canary = choose_canary(settings, bundle.manifest.version)

    # What asks them.
    health = Readiness(lambda: router.serving.health)
    metrics.ready_when(lambda: health.ready)
    jobs = choose_jobs(settings, router, online, metrics, log)
    reclaim = Reclaim(online.quiet, trim=glibc_trim())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(fleet.running(router.serving))
                if rollouts is not None:
                    await stack.enter_async_context(rollouts.running(canary))
                if jobs is not None:
                    await stack.enter_async_context(jobs.running(health.started))
                await stack.enter_async_context(reclaim.running())
                yield
        finally:
            await store.close()

    app = FastAPI(title="hetlm", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    problems.install(app)
    batch = Batch(partial(router.answer, patient=True), metrics, log, settings.batch_concurrency)
    app.include_router(routes(router, batch, health, metrics, settings, online))
    app.include_router(console_routes(lambda: router.serving.bundle))
    if jobs is not None:
        app.include_router(batch_routes(jobs, settings))
    app.openapi = openapi.document(app, lambda: router.serving.bundle)  # type: ignore[method-assign]
    if keys is not None:
        metrics.keys_unusable(keys.unusable_seconds)
    administered = [bundle_routes(rollouts, settings.body_timeout_seconds)] if rollouts is not None else []
    metrics_app, admin_app = metrics.application(), admin.application(keys, administered)
    admin_app.openapi = openapi.admin_document(admin_app)  # type: ignore[method-assign]
    for guarded, need in ((app, access.main_port), (admin_app, access.admin_port)):  # the last one added is outermost
        guarded.add_middleware(Guard, keys=keys, rates=rates, need=need, count=metrics.refused, log=log)
        guarded.add_middleware(Observe, metrics=metrics, log=log)
    for answering in (app, admin_app, metrics_app):
        answering.add_middleware(Headers)
    return Service(app, metrics_app, admin_app, router, health, log, rollouts)
