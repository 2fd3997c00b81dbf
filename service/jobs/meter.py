"""What Prometheus reads about batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily

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
        self._running = Gauge(
            "hetlm_batch_running_rows",
            "Rows of the batch under way, by what came out or that they are left; their sum is the whole file",
            ["result"],
            registry=registry,
        )
        self._chunks = Counter(
            "hetlm_batch_chunks",
            "Chunks of rows that are safe on the disk: a batch goes on from its last",
            registry=registry,
        )
        self._expired = Counter(
            "hetlm_batch_expired", "Batches that were deleted because their time was over", registry=registry
        )
        self._not_removed = Gauge(
            "hetlm_batch_not_removed",
            "Batches that are deleted, and whose files could not be removed yet",
            registry=registry,
        )
        registry.register(_Waited(online))
        self.jobs(dict.fromkeys(STATES, 0))
        for result in ("ok", "problem", "engine_down"):
            self._rows.labels(result)
        self.idle()

    def jobs(self, count: Mapping[State, int]) -> None:
        for state, jobs in count.items():
            if state != "cancelled":  # one that is cancelled is gone
                self._jobs.labels(state).set(jobs)

    def begun(self, tally: Tally, rows: int) -> None:
        """A batch is under way; `tally`: what an earlier run finished of its `rows`."""
        for result, count in _results(tally).items():
            self._running.labels(result).set(count)
        self._running.labels("left").set(rows - tally.done)
        self._progress.set(tally.done / rows if rows else 0.0)

    def scored(self, before: Tally, after: Tally, rows: int) -> None:
        """Rows were scored; `rows`: of the whole input."""
        earlier = _results(before)
        for result, count in _results(after).items():
            self._rows.labels(result).inc(count - earlier[result])
        self.begun(after, rows)

    def chunk(self) -> None:
        """Some rows are safe."""
        self._chunks.inc()

    def expired(self) -> None:
        """A batch was deleted because its time was over."""
        self._expired.inc()

    def not_removed(self, batches: int) -> None:
        """Their files are still there, though nobody can have them any more."""
        self._not_removed.set(batches)

    def idle(self) -> None:
        self.begun(Tally(), 0)


def _results(tally: Tally) -> dict[str, int]:
    return {
        "ok": tally.done - tally.failed - tally.fallbacks,
        "problem": tally.failed,
        "engine_down": tally.fallbacks,
    }


class _Waited:
    """`Online` counts; here it is read."""

    def __init__(self, online: Online) -> None:
        self._online = online

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield self._family()

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = self._family()
        family.add_metric((), self._online.waited)
        yield family

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily("hetlm_batch_waited_seconds", "Time that rows waited for online requests, summed")
