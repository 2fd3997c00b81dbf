"""A bundle whose reference says what its training looked like, and traffic of that kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from browsing.bundle import Bundle
from browsing.traffic import CONFIDENCE_EDGES, Routing, VisitPages
from service.monitoring.monitoring import Monitoring
from service.monitoring.observer import Answered
from tests.tiny import SIX_PAGES

PAGES = dict(zip(SIX_PAGES, (0.05, 0.03, 0.4, 0.25, 0.15, 0.07), strict=True))
UNKNOWN = 0.05
CLUSTERS = (0.7, 0.3)
CONFIDENCE = tuple({0.6: 0.1, 0.8: 0.3, 0.95: 0.4, 1.0: 0.2}.get(edge, 0.0) for edge in CONFIDENCE_EDGES)
RATES = {"cart": 0.3, "purchase": 0.1}
USERS = 5_000


class Clock:
    """Moved by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def trained(bundle: Bundle) -> Bundle:
    """The tiny bundle with a reference of `USERS` users."""
    reference = bundle.reference.model_copy(
        update={
            "outcome_rates": RATES,
            "visits": VisitPages(users=USERS, pages=PAGES, unknown=UNKNOWN, unknown_views=UNKNOWN),
            "routing": Routing(users=USERS, clusters=CLUSTERS, confidence=CONFIDENCE, mean_confidence=0.87),
        }
    )
    return replace(bundle, reference=reference)


@dataclass(frozen=True)
class Kind:
    """A population of requests."""

    pages: Sequence[float] = (*PAGES.values(), UNKNOWN)
    clusters: Sequence[float] = CLUSTERS
    confidence: Sequence[float] = CONFIDENCE

    def requests(self, count: int, seed: int = 0) -> Iterator[Answered]:
        """Visits of one to five pages; a confidence in the middle of its bin."""
        generator = np.random.default_rng(seed)
        names = (*SIX_PAGES, "/never/seen")
        edges = (0.0, *CONFIDENCE_EDGES)
        for _ in range(count):
            newest = generator.choice(len(names), int(generator.integers(1, 6)), p=np.array(self.pages))
            place = int(generator.choice(len(CONFIDENCE_EDGES), p=np.array(self.confidence)))
            cluster = int(generator.choice(len(self.clusters), p=np.array(self.clusters)))
            yield Answered(
                [names[i] for i in newest],
                (cluster, (edges[place] + edges[place + 1]) / 2),
                {"cart": float(generator.beta(3, 7)), "purchase": float(generator.beta(1, 9))},
            )


Values = dict[tuple[str, ...], float]


def values(text: str) -> Values:
    """`(name, source, other label values...)` -> value, without the label `bundle`."""

    def labels(own: dict[str, str]) -> list[str]:
        return [own[name] for name in sorted(own, key=lambda name: (name != "source", name)) if name != "bundle"]

    return {
        (sample.name, *labels(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@dataclass
class Watched:
    """Monitoring on a registry and a clock of its own."""

    registry: CollectorRegistry
    clock: Clock
    monitoring: Monitoring

    @classmethod
    def new(cls, half_life: float = 3_600.0) -> Watched:
        registry, clock = CollectorRegistry(), Clock()
        return cls(registry, clock, Monitoring(registry, half_life, clock))

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()

    @property
    def values(self) -> Values:
        return values(self.text)
