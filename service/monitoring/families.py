"""The metrics of what is asked and answered, each under the bundle that it is about."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from browsing.traffic import CONFIDENCE_EDGES
from service.metrics import SECONDS

_PSI = (
    "Population stability index of the last hours' requests against training, "
    "sum over bins of (now - then) ln(now / then): below 0.1 no shift, above 0.25 a major one; "
    "NaN while too few were seen"
)
_NOISE = (
    "The index that chance alone would give on average, (bins - 1) (1 / training users + 1 / requests): alert on "
    "hetlm_drift_psi minus this"
)


class Families:
    """Registered once per registry. `all`: every one, each with the label `bundle`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        windowed = ("bundle", "source", "distribution")
        self.psi = Gauge("hetlm_drift_psi", _PSI, windowed, registry=registry)
        self.noise = Gauge("hetlm_drift_psi_noise", _NOISE, windowed, registry=registry)
        self.size = Gauge(
            "hetlm_drift_sample_size",
            "Requests that the index rests on: as many of equal weight as say what the fading ones do",
            windowed,
            registry=registry,
        )
        self.pages = Counter(
            "hetlm_visit_pages",
            "Page views in the newest visits of answered requests, by whether the vocabulary has the page",
            ("bundle", "source", "result"),
            registry=registry,
        )
        self.unknown = Gauge(
            "hetlm_reference_unknown_page_ratio",
            "Share of page views in training's newest visits that the vocabulary lacks",
            ("bundle",),
            registry=registry,
        )
        self.confidence = Histogram(
            "hetlm_selector_confidence",
            "Probability that the selector gave the cluster it chose",
            ("bundle", "source"),
            buckets=CONFIDENCE_EDGES,
            registry=registry,
        )
        self.expected_confidence = Gauge(
            "hetlm_reference_selector_confidence",
            "Mean of hetlm_selector_confidence over training's users",
            ("bundle",),
            registry=registry,
        )
        self.share = Gauge(
            "hetlm_reference_cluster_share",
            "Share of training's users in a cluster",
            ("bundle", "cluster"),
            registry=registry,
        )
        self.outcome = Gauge(
            "hetlm_outcome_mean_probability",
            "Mean predicted probability of an outcome over the last hours' answers of the predictors; NaN while there "
            "are too few",
            ("bundle", "source", "outcome"),
            registry=registry,
        )
        self.base_rate = Gauge(
            "hetlm_outcome_base_rate",
            "Share of training's next sessions that hold the outcome",
            ("bundle", "outcome"),
            registry=registry,
        )
        self.wait = Histogram(
            "hetlm_admission_wait_seconds",
            "Time that a prediction waited to be let in",
            ("bundle", "source"),
            buckets=SECONDS,
            registry=registry,
        )
        self.all = (
            self.psi,
            self.noise,
            self.size,
            self.pages,
            self.unknown,
            self.confidence,
            self.expected_confidence,
            self.share,
            self.outcome,
            self.base_rate,
            self.wait,
        )

    def remove(self, bundle: str) -> None:
        for family in self.all:
            family.remove_by_labels({"bundle": bundle})
