"""The engines: as the service finds them, and as vLLM speaks of itself."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.dashboards.board import CLUSTER, INSTANCE, VERSION, WITHIN, AnyPanel, board
from deploy.dashboards.panels import BAD, LOOK, NONE, WELL, Query, curves, figure, heat, short, states, up_to

_V = 'instance=~"$instance", bundle=~"$version"'
_C = 'instance=~"$instance", bundle=~"$version", cluster=~"$cluster"'
_M = 'model_name=~"cluster-($cluster)"'
"""What `hetlm deploy` calls the models that vLLM serves."""
_NOW = "[$__rate_interval]"
_USABLE = f"hetlm_engine_up{{{_C}}} * on (instance, bundle, cluster) (1 - hetlm_circuit_open{{{_C}}})"
# An engine's process has vLLM's series beside its own; after a restart the same ones begin anew.
_RESTARTS = (
    f"changes(process_start_time_seconds[1h])"
    f" and on (job, instance) max_over_time(vllm:num_requests_running{{{_M}}}[1h])"
)
_SERVERS = "Nothing at all: the service computes itself, or its own vLLM servers, which nobody else may ask."


def engines() -> Dashboard:
    about = (
        "The engines that run the predictors. The first two rows are what the service finds, whatever the engine; the "
        "others are vLLM's own figures, where it runs as servers that Prometheus asks."
    )
    rows = (
        ("Do the engines answer?", _well()),
        ("As the service finds them", _found()),
        ("vLLM: load", _load()),
        ("vLLM: speed", _speed()),
    )
    return board("Engines", "hetlm-engines", about, (INSTANCE, VERSION, CLUSTER), rows)


def _well() -> Sequence[AnyPanel]:
    answers = f'hetlm_predictions_total{{{_V}, result=~"ok|no_history|engine_down"}}'
    return (
        figure(
            "Clusters without an engine",
            "Clusters whose engine gives no token, or is not asked because it fails, at every replica that has the "
            "bundle. Their visitors get the fallback's answers.",
            f"count(max by (bundle, cluster) ({_USABLE}) == 0) or vector(0)",
            "none",
            NONE,
            alert="HetlmEngineDown",
        ),
        figure(
            "Circuits open",
            "Engines that a replica does not ask just now, since they failed. It probes them, and asks again once they "
            "answer.",
            f"sum(hetlm_circuit_open{{{_C}}})",
            "none",
            NONE,
            alert="HetlmCircuitFlaps",
        ),
        figure(
            "From the fallback, 5 min",
            "Share of the answers that are the fallback model's, since no engine gave one in time.",
            f'sum(rate(hetlm_fallbacks_total{{{_V}, reason="engine_down"}}[5m])) / (sum(rate({answers}[5m])) > 0)',
            "percentunit",
            up_to(0.001, 0.01),
            alert="HetlmMostlyFallbacks",
            empty="no answers",
            decimals=1,
        ),
        figure(
            "Engines, p95, 5 min",
            "19 of 20 predictions waited at most this long for their engine, its queue included.",
            f'histogram_quantile(0.95, sum by (le) (rate(hetlm_stage_seconds_bucket{{{_V}, stage="generate"}}[5m])))',
            "s",
            up_to(WITHIN / 2, WITHIN),
            alert="HetlmLatencyBurnsFast",
            empty="no predictions",
        ),
        figure(
            "vLLM servers that answer",
            f"vLLM servers that Prometheus reaches. {_SERVERS}",
            f"count(count by (job, instance) (vllm:num_requests_running{{{_M}}}))",
            "none",
            alert="HetlmEngineServerDown",
            empty="none asked",
        ),
        figure(
            "vLLM restarts, 1 h",
            "How often a server's process began anew. One that restarts again and again has too little memory, or a "
            "broken predictor: its container's log says which.",
            f"sum({_RESTARTS})",
            "none",
            up_to(1, 3),
            alert="HetlmEngineServerDown",
            empty="none asked",
        ),
        figure(
            "Waiting in vLLM",
            "Paths that wait for their turn in the fullest server. Now and then is fine; always is too little room.",
            f"max(vllm:num_requests_waiting{{{_M}}})",
            "none",
            up_to(32, 256),
            alert="HetlmEngineQueues",
            empty="none asked",
        ),
        figure(
            "Fullest KV cache",
            "Share of the cache that paths under way hold, in the fullest server. When it is full, paths wait, or are "
            "thrown out and computed anew.",
            f"max(vllm:kv_cache_usage_perc{{{_M}}})",
            "percentunit",
            up_to(0.7, 0.9),
            alert="HetlmEngineCacheFull",
            empty="none asked",
            decimals=0,
        ),
    )


def _found() -> Sequence[AnyPanel]:
    up, circuits = (("no token", BAD), ("answers", WELL)), (("asked", WELL), ("not asked", LOOK))
    return (
        states(
            "Whether an engine gives a token",
            "Found by a health check every few seconds, at the replica that finds it best. Red: the engine's log says "
            "why, and the runbook what to do.",
            Query(
                short(f"max by (bundle, cluster) (hetlm_engine_up{{{_C}}})"),
                "cluster {{cluster}} {{version}}",
            ),
            up,
            alert="HetlmEngineDown",
        ),
        states(
            "Whether it is asked",
            "A circuit opens after failures, so that nobody waits for a broken engine, and closes with the first good "
            "probe. Orange at one replica alone is that replica's network.",
            Query(
                short(f"max by (instance, bundle, cluster) (hetlm_circuit_open{{{_C}}})"),
                "cluster {{cluster}} {{version}} at {{instance}}",
            ),
            circuits,
            alert="HetlmCircuitFlaps",
        ),
        curves(
            "Predictions without their engine",
            "Why: too slow (`timeout`), failed (`error`), still starting, no embedding to choose it by, or known to be "
            "broken (`open`).",
            "suffix: predictions/s",
            Query(f"sum by (reason) (rate(hetlm_engine_errors_total{{{_V}}}{_NOW}))", "{{reason}}"),
            stacked=True,
            alert="HetlmFallbacks",
        ),
        curves(
            "Answers that are no predictor's",
            "`engine_down`: the fallback's, for want of an engine. `no_history`: the prior's, which is right for a "
            "visitor of whom nothing is known.",
            "suffix: predictions/s",
            Query(f"sum by (reason) (rate(hetlm_fallbacks_total{{{_V}}}{_NOW}))", "{{reason}}"),
            stacked=True,
            alert="HetlmFallbacks",
        ),
        curves(
            "Second tries and opened circuits",
            "Calls tried again on another server of the cluster, and circuits that opened. The first without the "
            "second is one sick server among well ones.",
            "suffix: /s",
            Query(
                short(f"sum by (bundle, cluster) (rate(hetlm_engine_retries_total{{{_C}}}{_NOW}))"),
                "tried again: cluster {{cluster}} {{version}}",
            ),
            Query(
                short(f"sum by (bundle, cluster) (rate(hetlm_circuit_openings_total{{{_C}}}{_NOW}))"),
                "opened: cluster {{cluster}} {{version}}",
            ),
            alert="HetlmCircuitFlaps",
        ),
        curves(
            "Queue of the embedded engine, p95",
            "19 of 20 requests waited at most this long for their turn. Where it grows, the cores are too "
            "few for what is asked. Engines that are servers have queues of their own, below.",
            "s",
            Query(
                short(
                    "histogram_quantile(0.95, sum by (le, bundle, cluster)"
                    f" (rate(hetlm_engine_queue_seconds_bucket{{{_C}}}{_NOW})))"
                ),
                "cluster {{cluster}} {{version}}",
            ),
            alert="HetlmOverloaded",
        ),
    )


def _load() -> Sequence[AnyPanel]:
    def per_model(expression: str, legend: str = "{{model_name}} at {{instance}}", dashed: bool = False) -> Query:
        return Query(expression, legend, dashed)

    return (
        curves(
            "Paths under way and waiting",
            f"A prediction is several paths. Dashed: those that wait for their turn. {_SERVERS}",
            "none",
            per_model(f"sum by (model_name, instance) (vllm:num_requests_running{{{_M}}})"),
            per_model(
                f"sum by (model_name, instance) (vllm:num_requests_waiting{{{_M}}})",
                "waiting: {{model_name}} at {{instance}}",
                dashed=True,
            ),
            alert="HetlmEngineQueues",
        ),
        curves(
            "KV cache in use",
            "Share of the cache that paths under way hold. `--paths` of `hetlm deploy` sizes it.",
            "percentunit",
            per_model(f"max by (model_name, instance) (vllm:kv_cache_usage_perc{{{_M}}})"),
            most=1,
            steps=((None, "transparent"), (0.9, "red")),
            alert="HetlmEngineCacheFull",
        ),
        curves(
            "Thrown out",
            "Paths that lost their place in a full cache and are computed anew: time spent twice.",
            "suffix: paths/s",
            per_model(f"sum by (model_name, instance) (rate(vllm:num_preemptions_total{{{_M}}}{_NOW}))"),
            alert="HetlmEngineCacheFull",
        ),
        curves(
            "Prefix cache",
            "Share of the prompts' tokens that were computed before: a prediction's paths have their prompt in common. "
            "Where it falls, histories are too long for the cache, or too short to fill a block of it.",
            "percentunit",
            per_model(
                f"sum by (model_name, instance) (rate(vllm:prefix_cache_hits_total{{{_M}}}{_NOW}))"
                f" / (sum by (model_name, instance) (rate(vllm:prefix_cache_queries_total{{{_M}}}{_NOW})) > 0)"
            ),
            most=1,
            alert="HetlmEngineCacheFull",
        ),
        curves(
            "Paths by how they ended",
            "`stop`: the session ended. `length`: at the bundle's longest session. `abort`: nobody waited any more.",
            "suffix: paths/s",
            Query(f"sum by (finished_reason) (rate(vllm:request_success_total{{{_M}}}{_NOW}))", "{{finished_reason}}"),
            stacked=True,
        ),
        curves(
            "Restarts",
            "How often a server's process began anew within the hour before.",
            "none",
            per_model(_RESTARTS, "{{instance}}"),
            alert="HetlmEngineServerDown",
        ),
    )


def _speed() -> Sequence[AnyPanel]:
    def quantiles(name: str) -> Sequence[Query]:
        buckets = f"sum by (le) (rate(vllm:{name}_bucket{{{_M}}}{_NOW}))"
        return [Query(f"histogram_quantile({q}, {buckets})", f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)]

    def tokens(kind: str) -> Query:
        return Query(
            f"sum by (model_name) (rate(vllm:{kind}_tokens_total{{{_M}}}{_NOW}))", f"{kind}: {{{{model_name}}}}"
        )

    return (
        curves(
            "Tokens per second",
            "A token is a page. `generation`: pages of sampled sessions; `prompt`: pages of histories, those from the "
            "prefix cache included.",
            "suffix: tokens/s",
            tokens("generation"),
            tokens("prompt"),
        ),
        curves(
            "Time to the first page",
            "From a path's arrival in vLLM to its first page: the queue, and the history's computation.",
            "s",
            *quantiles("time_to_first_token_seconds"),
            alert="HetlmEngineQueues",
        ),
        curves(
            "Time from page to page",
            "How long each further page takes. It grows with the paths that are computed at once.",
            "s",
            *quantiles("inter_token_latency_seconds"),
        ),
        curves(
            "Time in the queue",
            "How long paths waited until they were computed at all.",
            "s",
            *quantiles("request_queue_time_seconds"),
            alert="HetlmEngineQueues",
            span=12,
        ),
        heat(
            "Time of a whole path",
            "How many paths took how long, from their arrival in vLLM to their end.",
            f"sum by (le) (increase(vllm:e2e_request_latency_seconds_bucket{{{_M}}}{_NOW}))",
            "s",
        ),
    )
