"""What a bundle says about the traffic that it was trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from browsing.bundle import Bundle
from service.monitoring.bins import PageBins

Distribution = Literal["clusters", "confidence", "pages"]


@dataclass(frozen=True, slots=True)
class Expected:
    """A distribution of training, and the users that it is known from."""

    shares: Sequence[float]
    users: int


def expected_of(bundle: Bundle, bins: PageBins | None) -> dict[Distribution, Expected]:
    """A bundle written before its reference told of routing and visits has the clusters of its training users alone:
    what training assigned them to, which is nearly where the selector sends them."""
    reference, routing = bundle.reference, bundle.reference.routing
    if routing is None:
        found: dict[Distribution, Expected] = {
            "clusters": Expected(reference.cluster_shares, max(bundle.manifest.training.users, 1))
        }
    else:
        found = {
            "clusters": Expected(routing.clusters, routing.users),
            "confidence": Expected(routing.confidence, routing.users),
        }
    if reference.visits is not None and bins is not None:
        found["pages"] = Expected(bins.expected, reference.visits.users)
    return found
