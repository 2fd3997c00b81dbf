"""What Prometheus reads. Every label is from a small closed set; none is a visitor or a page.

Each application has a registry of its own, so that several can live in one process. What depends on the bundle that
answers carries the label `bundle`, its version, as long as the bundle is held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from browsing.bundle import Manifest
from service.cache.embedder import Lookup
from service.resilience.admission import Reason
from service.security.guard import Refusal

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = ("/batches", "/batches/{batch_id}", "/batches/{batch_id}/results")
_CONSOLE = ("/", "/console/{name}", "/pages", "/bundle", "/report")
_ADMIN = ("/admin/keys", "/admin/bundles", "/admin/bundles/{version}/activate", "/admin/bundles/{version}/canary")
_OTHERS = ("/livez", "/readyz", "/openapi.json")
PREDICT = "/predict"
ROUTES = frozenset((PREDICT, "/predict/batch", *_BATCHES, *_CONSOLE, *_ADMIN, *_OTHERS))
NO_BUNDLE = "none"
"""The bundle of a request that was refused before it was any bundle's."""

Result = Literal["ok", "no_history", "engine_down", "refused", "failed"]
EngineFailure = Literal["timeout", "error", "starting", "embedding", "open"]


class Metrics:
    """The service's own numbers; the methods are what can happen. `of_bundle` makes those of one bundle."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(namespace="hetlm", registry=registry)
        self._requests = Counter("hetlm_requests", "HTTP requests", ["route", "status"], registry=registry)
        self._request_seconds = Histogram(
            "hetlm_request_seconds", "Time of an HTTP request", ["route"], buckets=SECONDS, registry=registry
        )
        self.in_flight = Gauge("hetlm_in_flight", "HTTP requests under way", registry=registry)
        self._lookups = Counter(
            "hetlm_cache_sessions",
            "Sessions looked up in the embedding cache: found, encoded, encoded by a request beside it, or damaged",
            ["result"],
            registry=registry,
        )
        self._store_errors = Counter(
            "hetlm_cache_errors", "Failed calls of the cache's store", ["operation", "reason"], registry=registry
        )
        self._refusals = Counter("hetlm_refusals", "Requests that were not let in", ["reason"], registry=registry)
        self._keys_unusable = Gauge(
            "hetlm_api_keys_unusable_seconds",
            "For how long the file of API keys could not be read; soon nobody is let in",
            registry=registry,
        )
        self._rollouts = Counter(
            "hetlm_rollouts",
            "Activations of a bundle and starts of a canary, by what came out",
            ["result"],
            registry=registry,
        )
        self._ready = Gauge("hetlm_ready", "Whether /readyz says yes", registry=registry)
        self._bundles = _BundleFamilies(registry)
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """A rate needs the zero before the first event, and a share of the requests all that it is of."""
        self._request_seconds.labels(PREDICT)
        for status in ("200", "429", "499", "500", "503"):
            self._requests.labels(PREDICT, status)
        for result in ("hit", "miss", "joined", "corrupt"):
            self._lookups.labels(result)
        for refusal in get_args(Refusal):
            self._refusals.labels(refusal)
        for outcome in ("done", "failed"):
            self._rollouts.labels(outcome)
        for result in ("refused", "failed"):
            self._bundles.predictions.labels(NO_BUNDLE, result)

    def of_bundle(self, manifest: Manifest, name: str) -> BundleMetrics:
        """`name`: of its directory."""
        return BundleMetrics(self._bundles, manifest, name)

    def keys_unusable(self, seconds: Callable[[], float]) -> None:
        """Asked whenever the metrics are read."""
        self._keys_unusable.set_function(seconds)

    def ready_when(self, ready: Callable[[], bool]) -> None:
        """Asked whenever the metrics are read."""
        self._ready.set_function(ready)

    def request(self, route: str, status: int, seconds: float) -> None:
        route = route if route in ROUTES else "other"
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def no_prediction(self, result: Literal["refused", "failed"]) -> None:
        """A request did not get as far as a bundle: it was wrong, or the service failed."""
        self._bundles.predictions.labels(NO_BUNDLE, result).inc()

    def refused(self, reason: Refusal) -> None:
        """Without the right key, too often, or under a foreign name."""
        self._refusals.labels(reason).inc()

    def rollout(self, *, done: bool) -> None:
        self._rollouts.labels("done" if done else "failed").inc()

    def lookup(self, result: Lookup, count: int) -> None:
        self._lookups.labels(result).inc(count)

    def store_failed(self, operation: Literal["get", "put"], kind: str) -> None:
        self._store_errors.labels(operation, kind).inc()

    def application(self) -> Starlette:
        """`GET /metrics`, for a port of its own."""

        async def metrics(request: Request) -> Response:
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
            return Response(encode(self.registry), headers={"content-type": content_type})

        return Starlette(routes=[Route("/metrics", metrics)])


class _BundleFamilies:
    """Registered once; each has the label `bundle`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.predictions = Counter(
            "hetlm_predictions", "Predictions, by what came out", ["bundle", "result"], registry=registry
        )
        self.stage_seconds = Histogram(
            "hetlm_stage_seconds",
            "Time of a prediction's stages",
            ["bundle", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.clusters = Counter(
            "hetlm_clusters", "Predictions, by the visitor's cluster", ["bundle", "cluster"], registry=registry
        )
        self.outcomes = Summary(
            "hetlm_outcome_probability",
            "Predicted probability of an outcome: sum / count = mean",
            ["bundle", "outcome"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "hetlm_fallbacks", "Answers not from a predictor", ["bundle", "reason"], registry=registry
        )
        self.engine_errors = Counter(
            "hetlm_engine_errors",
            "Predictions without their engine: too slow, failed, starting, no embedding to choose it by, circuit open",
            ["bundle", "reason"],
            registry=registry,
        )
        self.circuits = Gauge(
            "hetlm_circuit_open",
            "Whether a cluster's engine is not asked, being broken",
            ["bundle", "cluster"],
            registry=registry,
        )
        self.openings = Counter(
            "hetlm_circuit_openings",
            "Times that a cluster's last circuit opened",
            ["bundle", "cluster"],
            registry=registry,
        )
        self.retries = Counter(
            "hetlm_engine_retries", "Calls tried again on another replica", ["bundle", "cluster"], registry=registry
        )
        self.overloads = Counter(
            "hetlm_overloaded",
            "Predictions refused at once: too many under way (full), or no time left behind the others (late)",
            ["bundle", "reason"],
            registry=registry,
        )
        self.shared = Counter(
            "hetlm_shared_predictions", "Predictions that joined an equal one under way", ["bundle"], registry=registry
        )
        self.engine_up = Gauge(
            "hetlm_engine_up", "Whether an engine answers a token", ["bundle", "cluster"], registry=registry
        )
        self.engine_queue = Histogram(
            "hetlm_engine_queue_seconds",
            "Time that a request waited in the embedded engine until its first paths were computed",
            ["bundle", "cluster"],
            buckets=SECONDS,
            registry=registry,
        )
        self.share = Gauge(
            "hetlm_bundle_share",
            "Share of the users with an id whom a bundle answers: 1, a canary's, or 0 while it comes or goes",
            ["bundle"],
            registry=registry,
        )
        self.info = Gauge(
            "hetlm_bundle_info", "The bundles that are held", ["bundle", "method", "name"], registry=registry
        )
        self.all = (
            *(self.predictions, self.stage_seconds, self.clusters, self.outcomes, self.fallbacks, self.engine_errors),
            *(self.circuits, self.openings, self.retries, self.overloads, self.shared, self.engine_up),
            *(self.engine_queue, self.share, self.info),
        )


class BundleMetrics:
    """The numbers of one bundle, from its start to its end; the methods are what can happen."""

    def __init__(self, families: _BundleFamilies, manifest: Manifest, name: str) -> None:
        self._of = families
        self._bundle = bundle = manifest.version
        self._clusters = len(manifest.clusters)
        families.info.labels(bundle, manifest.training.method, name).set(1)
        families.share.labels(bundle).set(0)
        families.shared.labels(bundle)
        for k in map(str, range(len(manifest.clusters))):
            families.clusters.labels(bundle, k)
            families.engine_up.labels(bundle, k).set(0)
            families.circuits.labels(bundle, k).set(0)
            families.openings.labels(bundle, k)
            families.retries.labels(bundle, k)
        for outcome in manifest.outcomes:
            families.outcomes.labels(bundle, outcome)
        for result in get_args(Result):
            families.predictions.labels(bundle, result)
        for reason in ("no_history", "engine_down"):
            families.fallbacks.labels(bundle, reason)
        for failure in get_args(EngineFailure):
            families.engine_errors.labels(bundle, failure)
        for overload in get_args(Reason):
            families.overloads.labels(bundle, overload)

    def end(self) -> None:
        """The bundle is gone, and its numbers with it; what is still told about it is told to nobody."""
        for family in self._of.all:
            family.remove_by_labels({"bundle": self._bundle})
        self._of = _BundleFamilies(CollectorRegistry())

    def prediction(
        self, result: Result, cluster: int | None, outcomes: Mapping[str, float], milliseconds: Mapping[str, float]
    ) -> None:
        """An answer was given. `cluster`: None where the visitor's is not known."""
        self._of.predictions.labels(self._bundle, result).inc()
        if cluster is not None:
            self._of.clusters.labels(self._bundle, str(cluster)).inc()
        if result in ("no_history", "engine_down"):
            self._of.fallbacks.labels(self._bundle, result).inc()
        for outcome, probability in outcomes.items():
            self._of.outcomes.labels(self._bundle, outcome).observe(probability)
        for stage, took in milliseconds.items():
            self._of.stage_seconds.labels(self._bundle, stage).observe(took / 1000)

    def no_prediction(self, result: Literal["refused", "failed"]) -> None:
        """None was given: the request was wrong, or the service failed."""
        self._of.predictions.labels(self._bundle, result).inc()

    def engine_failed(self, reason: EngineFailure) -> None:
        self._of.engine_errors.labels(self._bundle, reason).inc()

    def circuit(self, cluster: int, *, is_open: bool) -> None:
        self._of.circuits.labels(self._bundle, str(cluster)).set(is_open)
        if is_open:
            self._of.openings.labels(self._bundle, str(cluster)).inc()

    def engine_retried(self, cluster: int) -> None:
        self._of.retries.labels(self._bundle, str(cluster)).inc()

    def engine_queue(self) -> Callable[[int, float], None]:
        """For an engine that has a queue: takes a cluster and seconds, in any thread. Counts begin at zero."""
        for k in range(self._clusters):
            self._of.engine_queue.labels(self._bundle, str(k))
        return lambda cluster, seconds: self._of.engine_queue.labels(self._bundle, str(cluster)).observe(seconds)

    def overloaded(self, reason: Reason) -> None:
        self._of.overloads.labels(self._bundle, reason).inc()

    def shared(self) -> None:
        self._of.shared.labels(self._bundle).inc()

    def engines(self, up: Mapping[int, bool]) -> None:
        for cluster, answers in up.items():
            self._of.engine_up.labels(self._bundle, str(cluster)).set(answers)

    def share(self, users: float) -> None:
        """Which share of the users it answers."""
        self._of.share.labels(self._bundle).set(users)
