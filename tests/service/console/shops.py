"""Bundles of the console's tests: with a profile, with a report, and with page names that look like markup."""

from __future__ import annotations

from pathlib import Path

from browsing.bundle import Bundle, seal
from browsing.profiles import (
    PROFILES,
    ClusterProfile,
    Journey,
    OutcomeRate,
    PageProfile,
    Profiles,
    SessionLength,
    Visits,
)
from tests import tiny
from tests.service.test_returns import model

SCRIPT = "<script>document.title='broken'</script>"
IMAGE = "<img/src=x/onerror=document.title='broken'>"
HOSTILE_PAGES = ("/cart", "/purchase", SCRIPT, IMAGE, "/", "/bags", "/bags/tote", "/bags/clutch", "/shoes", "/sale")
REPORT = "<!doctype html><title>Report</title><style>p{color:red}</style><p id=words>The report of this bundle</p>\n"

_VISITS = Visits(
    users=30,
    sessions=90,
    length=SessionLength(mean=3.2, lower_quartile=2, median=3, upper_quartile=4),
    sessions_per_user=3,
    repeated=0.4,
)


def profile(cluster: int, *journeys: tuple[str, ...]) -> ClusterProfile:
    return ClusterProfile(
        id=cluster,
        built_name=f"kind {cluster}",
        share=0.5,
        visits=_VISITS,
        typical=(PageProfile(page="/bags", share=0.4, lift=1.2),),
        distinctive=(),
        behaviours=("comes back to pages",),
        outcomes={"cart": OutcomeRate(rate=0.3, everybody=0.2)},
        journeys=tuple(Journey(pages=pages, weight=0.5) for pages in journeys),
    )


def hostile(root: Path) -> Bundle:
    """Two clusters with profiles, a model of returning, a report, and pages and a name that are markup."""
    manifest = tiny.bundle(root, pages=HOSTILE_PAGES)
    journeys = (("/", "/bags", "/bags/tote", "/cart"), ("/sale", "/nowhere", "/shoes"))
    profiles = Profiles(
        min_users=5,
        everybody=_VISITS,
        clusters=(profile(0, *journeys), profile(1, ("/shoes", SCRIPT))),
    )
    (root / PROFILES).write_text(profiles.model_dump_json())
    (root / "report.html").write_text(REPORT)
    model().save(root / "returns.json")
    first, second = manifest.clusters
    named = first.model_copy(update={"name": "<b>bag</b> comparers", "share": 0.6})
    typical = second.model_copy(update={"typical_pages": (SCRIPT, IMAGE, "/shoes"), "share": 0.4})
    seal(root, manifest.model_copy(update={"clusters": (named, typical)}))
    return Bundle.load(root)
