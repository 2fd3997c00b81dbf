"""What Prometheus reads about batches."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.jobs.ledger import STATES, State
from service.scoring.online import Online
from service.scoring.results import Tally


class Meter:
    """Registers with the service's own registry."""

    def __init__(self, registry: CollectorRegistry, online: Online) -> None:
        self._jobs = Gauge("hetlm_batch_jobs", "Batches that are kept, by state", ["state"], registry=registry)
        self._rows = Counter("hetlm_batch_rows", "Rows of batches, by what came out", ["result"], registry=registry)
        self._progress = Gauge(
            "hetlm_batch_progress", "Share of its rows that the batch under way has done", registry=registry
        )
        self._left = Gauge("hetlm_batch_rows_left", "Rows that the batch under way has before it", registry=registry)
        waited = Gauge(
            "hetlm_batch_waited_seconds", "Time that rows waited for online requests, all together", registry=registry
        )
        waited.set_function(lambda: online.waited)
        self.jobs(dict.fromkeys(STATES, 0))
        for result in ("ok", "problem", "engine_down"):
            self._rows.labels(result)

    def jobs(self, count: Mapping[State, int]) -> None:
        for state, jobs in count.items():
            if state != "cancelled":  # one that is cancelled is gone
                self._jobs.labels(state).set(jobs)

    def scored(self, before: Tally, after: Tally, rows: int) -> None:
        """Rows were scored; `rows`: of the whole input."""
        failed, fallbacks = after.failed - before.failed, after.fallbacks - before.fallbacks
        self._rows.labels("problem").inc(failed)
        self._rows.labels("engine_down").inc(fallbacks)
        self._rows.labels("ok").inc(after.done - before.done - failed - fallbacks)
        self._progress.set(after.done / rows)
        self._left.set(rows - after.done)

    def idle(self) -> None:
        self._progress.set(0)
        self._left.set(0)
