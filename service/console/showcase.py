"""What of a bundle can be shown to whoever may ask for predictions: aggregates, and sessions that a model made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from browsing.bundle import Bundle, ClusterInfo
from browsing.profiles import ClusterProfile
from service.console.completion import Completion
from service.console.documents import (
    BundleResponse,
    ClusterShown,
    ExampleShown,
    LimitsShown,
    OutcomeShown,
    TrainingShown,
)
from service.schemas import MAX_PAGE_LENGTH, MAX_PAGES, MAX_SESSION_PAGES, MAX_SESSIONS

REPORT = "report.html"
EXAMPLES = 6
EXAMPLE_SESSIONS = 3
EXAMPLE_PAGES = 8
TYPICAL_PAGES = 8


@dataclass(frozen=True, slots=True)
class Showcase:
    """`report`: the bundle's `report.html`, where it has one; read at once, while it is what was verified."""

    bundle: Bundle
    document: BundleResponse
    completion: Completion
    report: bytes | None

    @classmethod
    def of(cls, bundle: Bundle) -> Showcase:
        path = bundle.root / REPORT
        report = path.read_bytes() if path.is_file() else None
        return cls(bundle, _document(bundle, report is not None), Completion(bundle.vocabulary.pages), report)


class Showcases:
    """The showcase of the bundle that is served now."""

    def __init__(self, current: Callable[[], Bundle]) -> None:
        self._current = current
        self._made = Showcase.of(current())

    def now(self) -> Showcase:
        bundle = self._current()
        if self._made.bundle is not bundle:
            self._made = Showcase.of(bundle)
        return self._made


def _document(bundle: Bundle, has_report: bool) -> BundleResponse:
    manifest = bundle.manifest
    outcomes = {
        name: OutcomeShown(pages=list(pages), calibrated=bundle.calibration.covers(name))
        for name, pages in manifest.outcomes.items()
    }
    profiles = bundle.profiles.clusters if bundle.profiles is not None else (None,) * bundle.clusters
    return BundleResponse(
        version=manifest.version,
        clusters=[_cluster(info, profile) for info, profile in zip(manifest.clusters, profiles, strict=True)],
        outcomes=outcomes,
        limits=LimitsShown(
            max_steps=manifest.limits.max_steps,
            context_tokens=manifest.limits.context,
            sessions_read=MAX_SESSIONS,
            session_pages=MAX_SESSION_PAGES,
            pages=MAX_PAGES,
            page_length=MAX_PAGE_LENGTH,
        ),
        training=TrainingShown(
            method=manifest.training.method,
            users=manifest.training.users,
            window_start=manifest.training.window_start,
            window_end=manifest.training.window_end,
        ),
        vocabulary_pages=len(bundle.vocabulary.pages),
        calibrated=bool(outcomes) and all(outcome.calibrated for outcome in outcomes.values()),
        returns=bundle.returns is not None,
        report=has_report,
        examples=examples(bundle),
    )


def _cluster(info: ClusterInfo, profile: ClusterProfile | None) -> ClusterShown:
    return ClusterShown(
        id=info.id,
        name=info.name,
        share=info.share,
        typical_pages=list(info.typical_pages[:TYPICAL_PAGES]),
        behaviours=list(profile.behaviours) if profile is not None else [],
        median_pages=profile.visits.length.median if profile is not None else None,
        outcome_rates={name: rate.rate for name, rate in profile.outcomes.items()} if profile is not None else {},
    )


def examples(bundle: Bundle) -> list[ExampleShown]:
    """One history per cluster, the largest first, of pages that the bundle knows.

    Its sessions are the journeys that the cluster's predictor generated for its profile; in a bundle without profiles,
    its typical pages. Both are aggregates of many users: nobody's history is in a bundle.
    """
    found = []
    for info in sorted(bundle.manifest.clusters, key=lambda cluster: -cluster.share)[:EXAMPLES]:
        profile = bundle.profiles.clusters[info.id] if bundle.profiles is not None else None
        # The likeliest journey is the last visit: it is the one that weighs most.
        journeys = [journey.pages for journey in reversed(profile.journeys[:EXAMPLE_SESSIONS])] if profile else []
        sessions = [known for pages in journeys or [info.typical_pages] if (known := _known(bundle, pages))]
        if sessions:
            found.append(ExampleShown(cluster=info.id, sessions=sessions))
    return found


def _known(bundle: Bundle, pages: tuple[str, ...]) -> list[str]:
    return [page for page in pages if page in bundle.vocabulary][:EXAMPLE_PAGES]
