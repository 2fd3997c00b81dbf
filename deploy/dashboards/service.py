"""Whether the service is well: traffic, errors, latency, saturation."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.dashboards.board import FIRING, INSTANCE, VERSION, WITHIN, AnyPanel, board
from deploy.dashboards.held import held
from deploy.dashboards.panels import NONE, Query, at_least, curves, figure, heat, up_to

_I = 'instance=~"$instance"'
_V = 'instance=~"$instance", bundle=~"$version"'
_PREDICT = f'{_I}, route="/predict"'
_NOW = "[$__rate_interval]"


def service() -> Dashboard:
    about = "How questions about visitors are answered. The first row says whether all is well, the others where not."
    rows = (
        ("Is it well?", _well()),
        ("Traffic", _traffic()),
        ("Errors", _errors()),
        ("Latency", _latency()),
        ("Saturation", _saturation()),
        ("Embedding cache and bundles", held()),
    )
    return board("Service", "hetlm-service", about, (INSTANCE, VERSION), rows)


def _well() -> Sequence[AnyPanel]:
    failed = f'(sum(rate(hetlm_requests_total{{{_PREDICT}, status=~"5.."}}[1h])) or vector(0))'
    refused = f"(sum(rate(hetlm_overloaded_total{{{_I}}}[1h])) or vector(0))"
    asked = f"(sum(rate(hetlm_request_seconds_count{{{_PREDICT}}}[1h])) > 0)"
    answers = f'hetlm_predictions_total{{{_V}, result=~"ok|no_history|engine_down"}}'
    return (
        figure(
            "Alerts",
            "Alerts of this service that fire now. Open the runbook: it has a section for each.",
            f"count({FIRING}) or vector(0)",
            "none",
            NONE,
            alert="Runbook",
        ),
        figure(
            "Replicas ready",
            "Replicas whose /readyz says yes. At 0 a load balancer sends nobody here.",
            f"sum(hetlm_ready{{{_I}}})",
            "none",
            at_least(1),
            alert="HetlmNotReady",
            empty="none at all",
        ),
        figure(
            "Answered, 1 h",
            "Share of the /predict requests that neither failed (5xx) nor were refused for want of room. The objective "
            "is 99.9 % over 30 days; red is where an hour uses up 2 % of the month's error budget.",
            f"1 - ({failed} + {refused}) / {asked}",
            "percentunit",
            at_least(1 - 14.4 * 0.001, 1 - 0.001),
            alert="HetlmAvailabilityBurnsFast",
            empty="no requests",
            decimals=2,
        ),
        figure(
            f"Within {WITHIN:g} s, 1 h",
            f"Share of the /predict requests that took at most {WITHIN:g} s. The objective is 99 % over 30 days; red "
            "is where an hour uses up 2 % of the month's error budget.",
            f'sum(rate(hetlm_request_seconds_bucket{{{_PREDICT}, le="{WITHIN}"}}[1h])) / {asked}',
            "percentunit",
            at_least(1 - 14.4 * 0.01, 1 - 0.01),
            alert="HetlmLatencyBurnsFast",
            empty="no requests",
            decimals=1,
        ),
        figure(
            "p95, 5 min",
            "19 of 20 /predict requests took at most this long. Where it grows, the row Latency says which stage.",
            f"histogram_quantile(0.95, sum by (le) (rate(hetlm_request_seconds_bucket{{{_PREDICT}}}[5m])))",
            "s",
            up_to(WITHIN / 2, WITHIN),
            alert="HetlmLatencyBurnsFast",
            empty="no requests",
        ),
        figure(
            "Requests per second",
            "All HTTP requests of the last 5 minutes. A sudden 0 means that callers do not get here.",
            f"sum(rate(hetlm_requests_total{{{_I}}}[5m]))",
            "reqps",
            empty="no requests",
        ),
        figure(
            "From the fallback, 5 min",
            "Share of the answers that are the fallback model's, since no engine gave one in time. They are marked so, "
            "and worse. The dashboard Engines says which engine it is.",
            f'sum(rate(hetlm_fallbacks_total{{{_V}, reason="engine_down"}}[5m])) / (sum(rate({answers}[5m])) > 0)',
            "percentunit",
            up_to(0.001, 0.01),
            alert="HetlmFallbacks",
            empty="no answers",
            decimals=1,
        ),
        figure(
            "Refused with 429, 5 min",
            "Share of all requests that were refused because too much was under way, or because a key asked too often. "
            "The row Saturation tells the two apart. More replicas, or a higher rate for that key.",
            f'(sum(rate(hetlm_requests_total{{{_I}, status="429"}}[5m])) or vector(0))'
            f" / (sum(rate(hetlm_requests_total{{{_I}}}[5m])) > 0)",
            "percentunit",
            up_to(0.001, 0.01),
            alert="HetlmOverloaded",
            empty="no requests",
            decimals=1,
        ),
    )


def _traffic() -> Sequence[AnyPanel]:
    return (
        curves(
            "Requests by route",
            "HTTP requests per second. `other` is no address of the service: scanners, or a caller's typing error.",
            "reqps",
            Query(f"sum by (route) (rate(hetlm_requests_total{{{_I}}}{_NOW}))", "{{route}}"),
            stacked=True,
        ),
        curves(
            "Requests by status",
            "499: the caller left before the answer, often for a time limit of its own. 429 and 503 are honest "
            "refusals and say when to come again.",
            "reqps",
            Query(f"sum by (status) (rate(hetlm_requests_total{{{_I}}}{_NOW}))", "{{status}}"),
            stacked=True,
        ),
        curves(
            "Predictions by what came out",
            "`ok`: a predictor's. `no_history`: nothing is known of the visitor. `engine_down`: the fallback's. "
            "`refused`: a wrong or unwelcome request. `failed`: a fault of the service, to be found in its log.",
            "suffix: predictions/s",
            Query(f"sum by (result) (rate(hetlm_predictions_total{{{_V}}}{_NOW}))", "{{result}}"),
            stacked=True,
        ),
    )


def _errors() -> Sequence[AnyPanel]:
    asked = f"sum(rate(hetlm_requests_total{{{_I}}}{_NOW}))"

    def share(status: str) -> str:
        return f'(sum(rate(hetlm_requests_total{{{_I}, status=~"{status}"}}{_NOW})) or vector(0)) / ({asked} > 0)'

    return (
        curves(
            "Requests without an answer",
            "Shares of all requests: failed by the service (5xx), refused as wrong or unwelcome (4xx), or left by the "
            "caller before the answer (499).",
            "percentunit",
            Query(share("5.."), "5xx"),
            Query(share("4[0-8].|49[0-8]"), "4xx"),
            Query(share("499"), "499"),
            steps=up_to(0.001, 0.01),
            alert="HetlmCallersLeave",
        ),
        curves(
            "Predictions without their engine",
            "Why: too slow, failed, still starting, no embedding to choose it by, or known to be broken (`open`). The "
            "fallback answers in its place, or a strict request gets 503.",
            "suffix: predictions/s",
            Query(f"sum by (reason) (rate(hetlm_engine_errors_total{{{_V}}}{_NOW}))", "{{reason}}"),
            stacked=True,
            alert="HetlmFallbacks",
        ),
        curves(
            "Not let in",
            "Requests without the right key, too many per key, or under a foreign host name. Many of one reason are a "
            "caller's mistake, or somebody who tries keys.",
            "reqps",
            Query(f"sum by (reason) (rate(hetlm_refusals_total{{{_I}}}{_NOW}))", "{{reason}}"),
            stacked=True,
            alert="HetlmRefusals",
        ),
    )


def _latency() -> Sequence[AnyPanel]:
    def whole(quantile: float) -> str:
        return f"histogram_quantile({quantile}, sum by (le) (rate(hetlm_request_seconds_bucket{{{_PREDICT}}}{_NOW})))"

    def stages(quantile: float) -> AnyPanel:
        buckets = f"sum by (le, stage) (rate(hetlm_stage_seconds_bucket{{{_V}}}{_NOW}))"
        return curves(
            f"Stages, p{quantile * 100:g}",
            "Time of a prediction's stages, and of all (`total`). `generate` waits inside the engine, too; a slow "
            "`embed` is a cache that is cold or away.",
            "s",
            Query(f"histogram_quantile({quantile}, {buckets})", "{{stage}}"),
            alert="HetlmLatencyBurnsSlowly",
        )

    return (
        curves(
            "POST /predict",
            "Half, 19 of 20, and 99 of 100 requests took at most this long, from the first byte to the last. The red "
            "line is the objective, for 99 of 100.",
            "s",
            *(Query(whole(q), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
            steps=((None, "transparent"), (WITHIN, "red")),
            alert="HetlmLatencyBurnsFast",
            span=12,
        ),
        heat(
            "POST /predict, all of them",
            "How many requests took how long. Two bands are two kinds of requests: cached and not, or two engines.",
            f"sum by (le) (increase(hetlm_request_seconds_bucket{{{_PREDICT}}}{_NOW}))",
            "s",
        ),
        stages(0.5),
        stages(0.95),
        stages(0.99),
    )


def _saturation() -> Sequence[AnyPanel]:
    waits = f"sum by (le, source) (rate(hetlm_admission_wait_seconds_bucket{{{_V}}}{_NOW}))"
    return (
        curves(
            "In flight",
            "HTTP requests under way per replica. Where it grows and the traffic does not, something behind is slow.",
            "none",
            Query(f"hetlm_in_flight{{{_I}}}", "{{instance}}"),
            alert="HetlmOverloaded",
        ),
        curves(
            "Queue at the entrance, p95",
            "How long predictions waited to be let in. Online requests do not queue: they are refused. Rows of files "
            "stand back for them, which is meant.",
            "s",
            Query(f"histogram_quantile(0.95, {waits})", "{{source}}"),
            alert="HetlmOverloaded",
        ),
        curves(
            "Refused for want of room",
            "Predictions refused with 429: too many under way (`full`), or no time left behind the others (`late`). "
            "More replicas or more cores; HETLM_MAX_IN_FLIGHT moves the limit, not the capacity.",
            "suffix: predictions/s",
            Query(f"sum by (reason) (rate(hetlm_overloaded_total{{{_V}}}{_NOW}))", "{{reason}}"),
            stacked=True,
            alert="HetlmOverloaded",
        ),
        curves(
            "Processor",
            "Cores that each replica uses. The embedded engine computes here; with vLLM a replica at 1 is full.",
            "suffix: cores",
            Query(f"rate(hetlm_process_cpu_seconds_total{{{_I}}}{_NOW})", "{{instance}}"),
        ),
        curves(
            "Memory",
            "Resident memory per replica. It grows while the in-process cache fills, and then stays: a line that goes "
            "on rising for days is a leak.",
            "bytes",
            Query(f"hetlm_process_resident_memory_bytes{{{_I}}}", "{{instance}}"),
        ),
        curves(
            "File descriptors",
            "Share of those that the process may open. At 100 % no connection is taken any more.",
            "percentunit",
            Query(f"hetlm_process_open_fds{{{_I}}} / hetlm_process_max_fds{{{_I}}}", "{{instance}}"),
            most=1,
            steps=((None, "transparent"), (0.8, "red")),
            alert="HetlmFilesRunOut",
        ),
    )
