"""What Prometheus reads. Every label is from a small closed set; none is a visitor or a page.

Each application has a registry of its own, so that several can live in one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.cache.embedder import Lookup
from service.resilience.admission import Reason
from service.security.guard import Refusal

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = ("/batches", "/batches/{batch_id}", "/batches/{batch_id}/results")
_CONSOLE = ("/", "/console/{name}", "/pages", "/bundle", "/report")
_OTHERS = ("/livez", "/readyz", "/openapi.json", "/admin/keys")
ROUTES = frozenset(("/predict", "/predict/batch", *_BATCHES, *_CONSOLE, *_OTHERS))

Result = Literal["ok", "no_history", "engine_down", "refused", "failed"]
EngineFailure = Literal["timeout", "error", "starting", "embedding", "open"]


class Metrics:
    """The service's numbers; the methods are what can happen."""

    def __init__(self, bundle_version: str, method: str, clusters: int, outcomes: Sequence[str]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(namespace="hetlm", registry=registry)
        self._requests = Counter("hetlm_requests", "HTTP requests", ["route", "status"], registry=registry)
        self._request_seconds = Histogram(
            "hetlm_request_seconds", "Time of an HTTP request", ["route"], buckets=SECONDS, registry=registry
        )
        self.in_flight = Gauge("hetlm_in_flight", "HTTP requests under way", registry=registry)
        self._predictions = Counter("hetlm_predictions", "Predictions, by what came out", ["result"], registry=registry)
        self._stage_seconds = Histogram(
            "hetlm_stage_seconds", "Time of a prediction's stages", ["stage"], buckets=SECONDS, registry=registry
        )
        self._clusters = Counter(
            "hetlm_clusters", "Predictions, by the visitor's cluster", ["cluster"], registry=registry
        )
        self._outcomes = Summary(
            "hetlm_outcome_probability",
            "Predicted probability of an outcome: sum / count = mean",
            ["outcome"],
            registry=registry,
        )
        self._fallbacks = Counter("hetlm_fallbacks", "Answers not from a predictor", ["reason"], registry=registry)
        self._engine_errors = Counter(
            "hetlm_engine_errors",
            "Predictions without their engine: too slow, failed, starting, no embedding to choose it by, circuit open",
            ["reason"],
            registry=registry,
        )
        self._circuits = Gauge(
            "hetlm_circuit_open",
            "Whether a cluster's engine is not asked, being broken",
            ["cluster"],
            registry=registry,
        )
        self._openings = Counter(
            "hetlm_circuit_openings", "Times that a cluster's last circuit opened", ["cluster"], registry=registry
        )
        self._retries = Counter(
            "hetlm_engine_retries", "Calls tried again on another replica", ["cluster"], registry=registry
        )
        self._overloads = Counter(
            "hetlm_overloaded",
            "Predictions refused at once: too many under way (full), or no time left behind the others (late)",
            ["reason"],
            registry=registry,
        )
        self._shared = Counter(
            "hetlm_shared_predictions", "Predictions that joined an equal one under way", registry=registry
        )
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
        self._engine_up = Gauge("hetlm_engine_up", "Whether an engine answers a token", ["cluster"], registry=registry)
        self._ready = Gauge("hetlm_ready", "Whether /readyz says yes", registry=registry)
        info = Gauge("hetlm_bundle_info", "The bundle that is served", ["bundle", "method"], registry=registry)
        info.labels(bundle_version, method).set(1)
        self._known_outcomes = frozenset(outcomes)
        self._start_at_zero(clusters, outcomes)

    def _start_at_zero(self, clusters: int, outcomes: Sequence[str]) -> None:
        """A rate needs the zero before the first event."""
        for k in range(clusters):
            self._clusters.labels(str(k))
            self._engine_up.labels(str(k)).set(0)
            self._circuits.labels(str(k)).set(0)
            self._openings.labels(str(k))
            self._retries.labels(str(k))
        for outcome in outcomes:
            self._outcomes.labels(outcome)
        for result in ("ok", "no_history", "engine_down", "refused", "failed"):
            self._predictions.labels(result)
        for reason in ("no_history", "engine_down"):
            self._fallbacks.labels(reason)
        for failure in get_args(EngineFailure):
            self._engine_errors.labels(failure)
        for overload in get_args(Reason):
            self._overloads.labels(overload)
        for result in ("hit", "miss", "joined", "corrupt"):
            self._lookups.labels(result)
        for refusal in get_args(Refusal):
            self._refusals.labels(refusal)

    def request(self, route: str, status: int, seconds: float) -> None:
        route = route if route in ROUTES else "other"
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def prediction(
        self, result: Result, cluster: int | None, outcomes: Mapping[str, float], milliseconds: Mapping[str, float]
    ) -> None:
        """An answer was given. `cluster`: None where the visitor's is not known."""
        self._predictions.labels(result).inc()
        if cluster is not None:
            self._clusters.labels(str(cluster)).inc()
        if result in ("no_history", "engine_down"):
            self._fallbacks.labels(result).inc()
        for outcome, probability in outcomes.items():
            self._outcomes.labels(outcome).observe(probability)
        for stage, took in milliseconds.items():
            self._stage_seconds.labels(stage).observe(took / 1000)

    def no_prediction(self, result: Literal["refused", "failed"]) -> None:
        """None was given: the request was wrong, or the service failed."""
        self._predictions.labels(result).inc()

    def refused(self, reason: Refusal) -> None:
        """Without the right key, too often, or under a foreign name."""
        self._refusals.labels(reason).inc()

    def engine_failed(self, reason: EngineFailure) -> None:
        self._engine_errors.labels(reason).inc()

    def circuit(self, cluster: int, *, is_open: bool) -> None:
        self._circuits.labels(str(cluster)).set(is_open)
        if is_open:
            self._openings.labels(str(cluster)).inc()

    def engine_retried(self, cluster: int) -> None:
        self._retries.labels(str(cluster)).inc()

    def overloaded(self, reason: Reason) -> None:
        self._overloads.labels(reason).inc()

    def shared(self) -> None:
        self._shared.inc()

    def engines(self, up: Mapping[int, bool], ready: bool) -> None:
        for cluster, answers in up.items():
            self._engine_up.labels(str(cluster)).set(answers)
        self._ready.set(ready)

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
