"""A question's forecast, from its engine or around it: shared by all who ask the same, admitted, and always honest."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from browsing.engine import Engine, EngineTimeout
from browsing.forecast import Forecast, Forecaster, Options, Question
from service.logs import described
from service.metrics import EngineFailure
from service.problems import ProblemError
from service.resilience.admission import Admission, Overloaded, Reason
from service.resilience.circuits import Circuits
from service.resilience.single_flight import SingleFlight

FALLBACK_SECONDS = 10.0
"""The fallback model answers in milliseconds; this bounds it all the same."""


class ForecastMeter(Protocol):
    """What is told about the way a forecast came about."""

    def engine_failed(self, reason: EngineFailure) -> None: ...

    def overloaded(self, reason: Reason) -> None: ...

    def shared(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What one caller wants of a forecast. `left`: seconds until the deadline, which was `deadline` seconds long.
    `engine`: whether there is any point in asking the engine. `strict`: rather a problem than the fallback. `patient`:
    rather late than refused."""

    left: float
    deadline: float
    engine: bool
    strict: bool
    patient: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """`down`: the fallback model's. `seconds`: of decoding and estimating."""

    forecast: Forecast
    down: bool
    seconds: float


class Forecasts:
    """Forecasts over one bundle. `starting`: whether its engine is still being started."""

    def __init__(
        self,
        version: str,
        forecaster: Forecaster,
        circuits: Circuits,
        fallback: Engine,
        admission: Admission,
        starting: Callable[[], bool],
        meter: ForecastMeter,
        log: FilteringBoundLogger,
    ) -> None:
        self._version = version
        self._forecaster = forecaster
        self._circuits = circuits
        self._fallback = fallback
        self._admission = admission
        self._starting = starting
        self._meter = meter
        self._log = log
        self._calls: SingleFlight[Answered] = SingleFlight()
        self._secret = secrets.token_bytes(32)

    async def forecast(self, question: Question, options: Options, asked: Asked) -> Answered:
        """Raises `ProblemError`: 429 where the engine could answer, but not in time for those in front; 503 with
        `strict` where it does not answer, or where not even the fallback model does."""
        key = self._key(question, options, asked)
        if key in self._calls:
            self._meter.shared()
        return await self._calls.join(key, lambda: self._work(question, options, asked))

    def _key(self, question: Question, options: Options, asked: Asked) -> bytes:
        """A digest that means nothing outside this process: what the answer depends on is somebody's history."""
        wanted = (asked.deadline, asked.engine, asked.strict, asked.patient)
        material = repr((self._version, question, options, wanted))
        return hashlib.blake2b(material.encode(), key=self._secret, digest_size=32).digest()

    async def _work(self, question: Question, options: Options, asked: Asked) -> Answered:
        answered = await self._from_engine(question, options, asked) if asked.engine else None
        if answered is not None:
            return answered
        if asked.strict:
            raise self._down(question.cluster, "Try again, or without strict for an answer from the fallback.")
        try:
            return await self._draw(self._fallback, question, options, FALLBACK_SECONDS, down=True)
        except Exception as error:
            self._log.error("fallback_failed", **described(error))
            raise self._down(question.cluster, "Nor did the fallback model. Try again.") from None

    async def _from_engine(self, question: Question, options: Options, asked: Asked) -> Answered | None:
        """None where it is not up, too slow, or fails. Raises `ProblemError` (429)."""
        failure = self._known_failure(question.cluster, asked.left)
        if failure is not None:
            self._meter.engine_failed(failure)
            return None
        try:
            with self._admission.lane(question.cluster, asked.left, patient=asked.patient) as passage:
                try:
                    answered = await self._draw(self._circuits, question, options, asked.left, down=False)
                except EngineTimeout:
                    passage.overdue()
                    raise
                passage.through()
                return answered
        except Overloaded as overload:
            self._meter.overloaded(overload.reason)
            raise too_many(overload) from None
        except Exception as error:
            self._meter.engine_failed("timeout" if isinstance(error, EngineTimeout) else "error")
            self._log.warning("engine_failed", cluster=question.cluster, **described(error))
            return None

    def _known_failure(self, cluster: int, left: float) -> EngineFailure | None:
        if self._starting():
            return "starting"
        if not self._circuits.closed(cluster):
            return "open"
        return "timeout" if left <= 0 else None

    async def _draw(
        self, engine: Engine, question: Question, options: Options, deadline: float, *, down: bool
    ) -> Answered:
        draws = await self._forecaster.draw(engine, question, options, deadline)
        began = time.perf_counter()
        forecast = self._forecaster.summarise(question, draws, options)
        return Answered(forecast, down, time.perf_counter() - began)

    def _down(self, cluster: int, remedy: str) -> ProblemError:
        wait = max(1, round(self._circuits.wait(cluster) + 1))
        return ProblemError("engine-down", f"No engine answered in time. {remedy}", headers={"Retry-After": str(wait)})


def too_many(overload: Overloaded) -> ProblemError:
    """429."""
    why = {
        "full": "As many predictions as the service takes are under way.",
        "late": "Those in front of it leave no time to answer before the deadline.",
    }
    return ProblemError(
        "overloaded",
        f"{why[overload.reason]} Try again after the seconds that Retry-After names.",
        headers={"Retry-After": str(overload.retry_after)},
    )
