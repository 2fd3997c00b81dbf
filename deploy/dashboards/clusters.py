"""Whether visitors are still those of the training: clusters, confidence, drift, outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.dashboards.board import CLUSTER, VERSION, AnyPanel, board, choice
from deploy.dashboards.panels import Query, Steps, at_least, curves, figure, heat, short, up_to

_B = 'bundle=~"$version"'
_S = 'bundle=~"$version", source="$source"'
_C = 'bundle=~"$version", cluster=~"$cluster"'
_SHIFT: Steps = ((None, "transparent"), (0.1, "orange"), (0.25, "red"))

_SHARE = (
    f"sum by (bundle, cluster) (rate(hetlm_clusters_total{{{_C}}}[1h]))"
    f" / on (bundle) group_left () (sum by (bundle) (rate(hetlm_clusters_total{{{_B}}}[1h])) > 0)"
)
_TRAINED = f"max by (bundle, cluster) (hetlm_reference_cluster_share{{{_C}}})"
_CONFIDENCE = (
    f"sum by (bundle) (rate(hetlm_selector_confidence_sum{{{_S}}}[1h]))"
    f" / (sum by (bundle) (rate(hetlm_selector_confidence_count{{{_S}}}[1h])) > 0)"
)
_SURE = f"max by (bundle) (hetlm_reference_selector_confidence{{{_B}}})"
_UNKNOWN = (
    f'sum by (bundle) (rate(hetlm_visit_pages_total{{{_S}, result="unknown"}}[1h]))'
    f" / (sum by (bundle) (rate(hetlm_visit_pages_total{{{_S}}}[1h])) > 0)"
)
_LACKED = f"max by (bundle) (hetlm_reference_unknown_page_ratio{{{_B}}})"
# An index over too few requests is NaN, which no comparison matches: one replica's must not hide the others'.
_EXCESS = f"avg by (bundle, distribution) (hetlm_drift_psi{{{_S}}} - hetlm_drift_psi_noise{{{_S}}} > -Inf)"
_PREDICTED = f"avg by (bundle, outcome) (hetlm_outcome_mean_probability{{{_S}}} >= 0)"
_BASE = f"max by (bundle, outcome) (hetlm_outcome_base_rate{{{_B}}})"


def clusters() -> Dashboard:
    about = (
        "Whether those who come are still those whom the bundle was trained on. Everything here changes within hours "
        "and days; what to do is mostly to train again."
    )
    rows = (
        ("Are visitors still those of the training?", _well()),
        ("Clusters", _clusters()),
        ("The selector", _selector()),
        ("Drift", _drift()),
        ("Outcomes", _outcomes()),
    )
    variables = (VERSION, CLUSTER, choice("source", "asked", ("online", "batch")))
    return board("Clusters", "hetlm-clusters", about, variables, rows, since="now-2d")


def _well() -> Sequence[AnyPanel]:
    return (
        figure(
            "Largest drift",
            "The largest population stability index of clusters, confidence and pages, less what chance alone gives. "
            "Below 0.1 is no shift, from 0.25 a major one. Look which of the three it is, and train again.",
            f"max({_EXCESS})",
            "none",
            up_to(0.1, 0.25),
            alert="HetlmDrift",
            empty="too few requests",
            decimals=2,
            span=4,
        ),
        figure(
            "Requests behind it",
            "How many requests the index rests on, the older weighing less. Below 100 nothing is said.",
            f"sum(min by (bundle, instance) (hetlm_drift_sample_size{{{_S}}}))",
            "short",
            at_least(100),
            empty="none yet",
            span=4,
        ),
        figure(
            "Furthest cluster",
            "The largest difference between a cluster's share of the last hour's predictions and its share of "
            "training's users.",
            f"max(abs({_SHARE} - {_TRAINED}))",
            "percentunit",
            up_to(0.1, 0.2),
            alert="HetlmDrift",
            empty="no predictions",
            decimals=1,
            span=4,
        ),
        figure(
            "Confidence against training's",
            "Mean probability of the cluster that the selector chose, over the same mean in training. Below 80 % it "
            "does not recognise its visitors.",
            f"min({_CONFIDENCE} / {_SURE})",
            "percentunit",
            at_least(0.8, 0.9),
            alert="HetlmSelectorUnsure",
            empty="no predictions",
            decimals=0,
            span=4,
        ),
        figure(
            "Unknown pages above training's",
            "By how much the share of page views that the vocabulary lacks exceeds the share in training. New parts of "
            "the site, or page rules that no longer fit its addresses.",
            f"max({_UNKNOWN} - {_LACKED})",
            "percentunit",
            up_to(0.02, 0.05),
            alert="HetlmUnknownPages",
            empty="no predictions",
            decimals=1,
            span=4,
        ),
        figure(
            "Furthest outcome",
            "The largest factor between an outcome's mean predicted probability and its share in training, whichever "
            "way. From 2 on, look: other visitors, or predictors that are off.",
            f"exp(max(abs(ln({_PREDICTED} / ({_BASE} > 0)))))",
            "suffix: ×",
            up_to(1.5, 2),
            alert="HetlmOutcomeShift",
            empty="too few requests",
            decimals=2,
            span=4,
        ),
    )


def _clusters() -> Sequence[AnyPanel]:
    return (
        curves(
            "Share of predictions",
            "Share of the last hour's predictions by the visitor's cluster. The console and the report say what kind "
            "of visitor each cluster is.",
            "percentunit",
            Query(short(_SHARE), "cluster {{cluster}} {{version}}"),
            stacked=True,
            most=1,
            alert="HetlmDrift",
        ),
        curves(
            "Share now less share in training",
            "Above 0: more of these visitors than in training. A campaign moves it for days, a changed site for good.",
            "percentunit",
            Query(short(f"{_SHARE} - {_TRAINED}"), "cluster {{cluster}} {{version}}"),
            least=None,
            alert="HetlmDrift",
        ),
        curves(
            "Predictions by cluster",
            "What each cluster's engine is asked for. An engine whose cluster grows needs more room first.",
            "suffix: predictions/s",
            Query(
                short(f"sum by (bundle, cluster) (rate(hetlm_clusters_total{{{_C}}}[$__rate_interval]))"),
                "cluster {{cluster}} {{version}}",
            ),
            stacked=True,
        ),
    )


def _selector() -> Sequence[AnyPanel]:
    return (
        curves(
            "Mean confidence",
            "Probability that the selector gave the cluster it chose, over the last hour; dashed: in training.",
            "percentunit",
            Query(short(_CONFIDENCE), "now {{version}}"),
            Query(short(_SURE), "training {{version}}", dashed=True),
            most=1,
            alert="HetlmSelectorUnsure",
            span=12,
        ),
        heat(
            "Confidence, all of it",
            "How many predictions had which confidence. A second band at the bottom is a kind of visitor that no "
            "cluster is for.",
            f"sum by (le) (increase(hetlm_selector_confidence_bucket{{{_S}}}[$__rate_interval]))",
            "percentunit",
        ),
    )


def _drift() -> Sequence[AnyPanel]:
    return (
        curves(
            "Drift beyond chance",
            "Population stability index less what chance gives: of the chosen clusters, of their confidence, and of "
            "the pages of the newest visit. Empty below 100 requests.",
            "none",
            Query(short(_EXCESS), "{{distribution}} {{version}}"),
            least=None,
            steps=_SHIFT,
            alert="HetlmDrift",
        ),
        curves(
            "Requests behind the index",
            "Each weighs half after HETLM_DRIFT_HALF_LIFE_HOURS. It begins anew with a replica.",
            "short",
            Query(
                short(f"sum by (bundle, distribution) (hetlm_drift_sample_size{{{_S}}})"),
                "{{distribution}} {{version}}",
            ),
        ),
        curves(
            "Unknown pages",
            "Share of the page views in newest visits that the vocabulary lacks, over the last hour; dashed: in "
            "training. On a news site this rises by the day.",
            "percentunit",
            Query(short(_UNKNOWN), "now {{version}}"),
            Query(short(_LACKED), "training {{version}}", dashed=True),
            alert="HetlmUnknownPages",
        ),
    )


def _outcomes() -> Sequence[AnyPanel]:
    return (
        curves(
            "Predicted against base rate",
            "Mean predicted probability of each outcome over the last hours, given that the visitor returns; dashed: "
            "the share of training's next sessions that held it.",
            "percentunit",
            Query(short(_PREDICTED), "{{outcome}} {{version}}"),
            Query(short(_BASE), "{{outcome}}, training {{version}}", dashed=True),
            alert="HetlmOutcomeShift",
            span=12,
        ),
        curves(
            "Predicted over base rate",
            "1 is as in training; twice or half is worth a look, not yet a fault: those who are asked about may differ "
            "from those who were trained on.",
            "suffix: ×",
            Query(short(f"{_PREDICTED} / ({_BASE} > 0)"), "{{outcome}} {{version}}"),
            least=None,
            logarithmic=True,
            steps=((None, "transparent"), (2, "red")),
            alert="HetlmOutcomeShift",
            span=12,
        ),
    )
