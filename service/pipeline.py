"""One prediction: read the history, embed it, select a cluster, forecast; what fails is answered around."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch
from structlog.typing import FilteringBoundLogger

from browsing.bundle import Bundle
from browsing.calibration import wilson
from browsing.encoder import pool
from browsing.forecast import Forecast, Options, Question
from browsing.returns import visits_of
from service.cache.embedder import Embedded, Embedder
from service.history import History, history_of
from service.logs import described
from service.metrics import BundleMetrics
from service.monitoring.observer import Answered, Observing, Source
from service.problems import FieldError, ProblemError
from service.resilience.admission import Admission, Overloaded
from service.resilience.forecasts import Asked, Forecasts, too_many
from service.schemas import (
    ClusterOut,
    EmbeddingOut,
    OutcomeOut,
    PageOut,
    PredictRequest,
    PredictResponse,
    SamplesOut,
    TookOut,
    TruncatedOut,
)

RETRY_AFTER = "2"


@dataclass(slots=True)
class _Watch:
    """Milliseconds per stage of one prediction, and what is left until its deadline (seconds from the start)."""

    deadline: float
    began: float = field(default_factory=lambda: time.perf_counter())  # looked up here: time may be a test's own
    took: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("embed", "select", "generate", "estimate"), 0.0)
    )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.took[name] += (time.perf_counter() - start) * 1000

    def part(self, name: str, inner: str, seconds: float) -> None:
        """What was measured inside stage `name` belongs to `inner`; who joined late did not wait for all of it."""
        ms = min(seconds * 1000, self.took[name])
        self.took[name] -= ms
        self.took[inner] += ms

    @property
    def left(self) -> float:
        return self.deadline - (time.perf_counter() - self.began)

    def stop(self) -> dict[str, float]:
        total = (time.perf_counter() - self.began) * 1000
        return {name: round(ms, 3) for name, ms in {"total": total, **self.took}.items()}


@dataclass(frozen=True, slots=True)
class _Selected:
    cluster: int
    probability: float
    known: bool


class Pipeline:
    """Answers requests over one bundle. May be called from many tasks at once."""

    def __init__(
        self,
        bundle: Bundle,
        embedder: Embedder,
        forecasts: Forecasts,
        admission: Admission,
        metrics: BundleMetrics,
        log: FilteringBoundLogger,
        engine_deadline: float,
        observer: Observing,
    ) -> None:
        """`engine_deadline`: seconds from a request's start where it sets none itself. `observer`: watches drift."""
        self.bundle = bundle
        self._embedder = embedder
        self._forecasts = forecasts
        self._admission = admission
        self._metrics = metrics
        self._log = log
        self._deadline = engine_deadline
        self._observer = observer

    async def answer(self, request: PredictRequest, request_id: str, *, patient: bool = False) -> PredictResponse:
        """Raises `ProblemError` for an event that names no page, under overload and, with `strict`, instead of a
        fallback. `patient`: waits for its turn instead of being refused; its deadline runs from then on."""
        came = time.perf_counter()
        try:
            async with self._admission.entrance(patient=patient):
                self._observer.waited(time.perf_counter() - came, _source(patient))
                return await self._answer(request, request_id, patient)
        except Overloaded as overload:
            self._metrics.overloaded(overload.reason)
            self._metrics.no_prediction("refused")
            raise too_many(overload) from None
        except ProblemError as problem:
            self._metrics.no_prediction("refused" if problem.status < 500 else "failed")
            raise
        except Exception:
            self._metrics.no_prediction("failed")
            raise

    async def _answer(self, request: PredictRequest, request_id: str, patient: bool) -> PredictResponse:
        asked = request.options
        watch = _Watch(asked.deadline_ms / 1000 if asked.deadline_ms else self._deadline)
        bundle = self.bundle
        history = history_of(request, bundle.rules, bundle.vocabulary, bundle.manifest.limits.prompt)
        if not history.sessions:
            return self._without_history(request, request_id, history, watch)
        with watch.stage("embed"):
            embedded = await self._embed(history, watch.left, patient)
        with watch.stage("select"):
            selected = self._select(embedded)
        question = Question(selected.cluster, history.prompt.ids, history.sessions)
        decode = asked.decode or bundle.manifest.decode
        options = Options(asked.samples, asked.top_pages, decode, asked.seed, asked.tolerance)
        with watch.stage("generate"):
            answered = await self._forecasts.forecast(
                question, options, Asked(watch.left, watch.deadline, embedded is not None, asked.strict, patient)
            )
        watch.part("generate", "estimate", answered.seconds)
        forecast, down = answered.forecast, answered.down
        with watch.stage("estimate"):
            returns = self._returns(history, asked.as_of)
            outcomes = self._outcomes(forecast, returns, calibrate=not down)
        took = watch.stop()
        self._metrics.prediction(
            "engine_down" if down else "ok",
            selected.cluster if selected.known else None,
            {name: outcome.probability for name, outcome in outcomes.items()},
            took,
        )
        routed = (selected.cluster, selected.probability) if selected.known else None
        probabilities = {} if down else {name: outcome.probability for name, outcome in outcomes.items()}
        self._observer.observe(Answered(history.sessions[-1], routed, probabilities), _source(patient))
        return PredictResponse(
            request_id=request_id,
            bundle_version=bundle.manifest.version,
            user_id=request.user_id,
            cluster=self._cluster(selected),
            next_session=list(forecast.next_session),
            pages=[
                PageOut(page=p.page, probability=p.probability, seen_before=p.seen_before, estimator=p.estimator)
                for p in forecast.pages
            ],
            outcomes=outcomes,
            return_within_7_days=returns,
            unknown_pages=list(history.unknown),
            truncated=TruncatedOut(sessions_dropped=history.dropped),
            unfinished_paths=forecast.unfinished_paths,
            samples=SamplesOut(pages=forecast.drawn.pages, outcomes=dict(forecast.drawn.outcomes)),
            fallback="engine_down" if down else None,
            embedding=EmbeddingOut(
                sessions=len(history.sessions) if embedded else 0, cached=embedded.cached if embedded else 0
            ),
            took_ms=TookOut(**took),
        )

    async def _embed(self, history: History, left: float, patient: bool) -> Embedded | None:
        """None where the encoder fails or the time is up: a prediction does not need it that much."""
        try:
            async with asyncio.timeout(left):
                return await self._embedder.embed(history.sessions, patient=patient)
        except Exception as error:
            self._metrics.engine_failed("embedding")
            self._log.warning("embedding_failed", **described(error))
            return None

    def _select(self, embedded: Embedded | None) -> _Selected:
        """The likeliest cluster; without an embedding the commonest."""
        if embedded is None:
            return self._commonest()
        z = pool(embedded.vectors, self.bundle.manifest.encoder.decay)
        probabilities = self.bundle.selector.probabilities(torch.from_numpy(z)[None])[0]
        cluster = int(probabilities.argmax())
        return _Selected(cluster, min(max(float(probabilities[cluster]), 0.0), 1.0), known=True)

    def _commonest(self) -> _Selected:
        commonest = max(self.bundle.manifest.clusters, key=lambda cluster: cluster.share)
        return _Selected(commonest.id, commonest.share, known=False)

    def _returns(self, history: History, as_of: datetime | None) -> float | None:
        """P(any session within 7 days after `as_of`), by default after now; None where nothing is known of it."""
        model, rules = self.bundle.returns, self.bundle.rules
        if model is None:
            return None
        pages = {name: own for name, own in rules.outcome_pages().items() if name in model.outcomes}
        visits = visits_of(history.started_at, history.sessions, pages)
        return model.probability(visits, as_of or datetime.now(UTC))

    def _outcomes(self, forecast: Forecast, returns: float | None, *, calibrate: bool) -> dict[str, OutcomeOut]:
        """The calibration was fitted to the predictors; the fallback's probabilities stay raw."""
        outcomes = {}
        for name, outcome in forecast.outcomes.items():
            interval = outcome.interval
            raw = probability = outcome.probability
            calibrated = False
            if calibrate:
                probability, calibrated = self.bundle.calibration.apply(name, raw, outcome.evidence)
                interval = self.bundle.calibration.interval(name, raw, interval, outcome.evidence)
            outcomes[name] = OutcomeOut(
                probability=probability,
                raw=raw,
                calibrated=calibrated,
                interval=interval,
                within_7_days=None if returns is None else returns * probability,
            )
        return outcomes

    def _cluster(self, selected: _Selected) -> ClusterOut:
        name = self.bundle.manifest.clusters[selected.cluster].name
        return ClusterOut(id=selected.cluster, name=name, probability=selected.probability)

    def _without_history(
        self, request: PredictRequest, request_id: str, history: History, watch: _Watch
    ) -> PredictResponse:
        """The prior: what the training users' first sessions held."""
        if request.options.strict:
            where = "sessions" if request.events is None else "events"
            detail = "holds no session, and strict asks for no fallback: send a history, or leave strict out"
            pointer = f"/{where}"
            raise ProblemError("no-history", f"{pointer}: {detail}", [FieldError(pointer=pointer, detail=detail)])
        prior = self.bundle.prior
        outcomes = {
            name: OutcomeOut(probability=p, raw=p, calibrated=False, interval=wilson(p, prior.sessions))
            for name, p in prior.outcomes.items()
        }
        took = watch.stop()
        probabilities = {name: outcome.probability for name, outcome in outcomes.items()}
        self._metrics.prediction("no_history", None, probabilities, took)
        return PredictResponse(
            request_id=request_id,
            bundle_version=self.bundle.manifest.version,
            user_id=request.user_id,
            cluster=self._cluster(self._commonest()),
            next_session=list(prior.next_session),
            pages=[
                PageOut(page=page.page, probability=page.probability, seen_before=False, estimator="count")
                for page in sorted(prior.pages, key=lambda p: -p.probability)[: request.options.top_pages]
            ],
            outcomes=outcomes,
            unknown_pages=[],
            truncated=TruncatedOut(sessions_dropped=history.dropped),
            unfinished_paths=0.0,
            fallback="no_history",
            embedding=EmbeddingOut(sessions=0, cached=0),
            took_ms=TookOut(**took),
        )


def _source(patient: bool) -> Source:
    return "batch" if patient else "online"
