"""What replicas hold: sessions in the embedding cache, and bundles. A row of the dashboard of the service."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.dashboards.board import AnyPanel
from deploy.dashboards.panels import Query, curves, short

_I = 'instance=~"$instance"'
_V = 'instance=~"$instance", bundle=~"$version"'
_NOW = "[$__rate_interval]"


def held() -> Sequence[AnyPanel]:
    users = f"hetlm_bundle_share{{{_V}}} * on (instance, bundle) group_left (name) hetlm_bundle_info{{{_V}}}"
    return (
        curves(
            "Sessions looked up in the cache",
            "`hit`: found. `miss`: encoded. `joined`: encoded for a request beside it. `corrupt`: damaged or not ours, "
            "which must never be. Hits save time and nothing else.",
            "suffix: sessions/s",
            Query(f"sum by (result) (rate(hetlm_cache_sessions_total{{{_I}}}{_NOW}))", "{{result}}"),
            stacked=True,
            alert="HetlmCacheCorrupt",
        ),
        curves(
            "Failed calls of Redis",
            "Answers stay right without it, and come later. Nothing at all: none ever failed, or the cache is in the "
            "process.",
            "suffix: calls/s",
            Query(
                f"sum by (operation, reason) (rate(hetlm_cache_errors_total{{{_I}}}{_NOW}))",
                "{{operation}}: {{reason}}",
            ),
            stacked=True,
            alert="HetlmCacheDown",
        ),
        curves(
            "Users by bundle",
            "Share of the users whom each bundle answers; two while a canary runs. All replicas must agree.",
            "percentunit",
            Query(short(f"avg by (bundle, name) ({users})"), "{{name}} {{version}}"),
            most=1,
            alert="HetlmBundleMismatch",
        ),
    )
