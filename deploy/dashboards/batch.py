"""Files that are scored over HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.dashboards.board import INSTANCE, WITHIN, AnyPanel, board
from deploy.dashboards.panels import NONE, Query, curves, figure, up_to

_I = 'instance=~"$instance"'
_NOW = "[$__rate_interval]"
_LEFT = f'sum by (instance) (hetlm_batch_running_rows{{{_I}, result="left"}})'
_SPEED = f"sum by (instance) (rate(hetlm_batch_rows_total{{{_I}}}[5m]))"
_BAD_ROWS = (
    f'sum(rate(hetlm_batch_rows_total{{{_I}, result!="ok"}}[15m]))'
    f" / (sum(rate(hetlm_batch_rows_total{{{_I}}}[15m])) > 0)"
)


def batch() -> Dashboard:
    about = "Files that are scored over HTTP (`/batches`): what waits, how fast it goes, what fails, what is deleted."
    rows = (
        ("Do files get done?", _well()),
        ("Work", _work()),
        ("Beside online requests", _beside()),
        ("Keeping and deleting", _kept()),
    )
    return board("Batches", "hetlm-batches", about, (INSTANCE,), rows)


def _well() -> Sequence[AnyPanel]:
    def jobs(state: str) -> str:
        return f'sum(hetlm_batch_jobs{{{_I}, state="{state}"}})'

    return (
        figure(
            "Waiting",
            "Files that wait for their turn; each replica works on one at a time.",
            jobs("queued"),
            "none",
            up_to(5, 10),
            alert="HetlmBatchesWait",
            empty="no /batches",
        ),
        figure(
            "Under way",
            "Files that are being scored.",
            jobs("running"),
            "none",
            alert="HetlmBatchStuck",
            empty="no /batches",
        ),
        figure(
            "Failed",
            "Files that failed and are still kept. Each one's document at /batches/{id} says why; the log says more.",
            jobs("failed"),
            "none",
            NONE,
            alert="HetlmBatchFailed",
            empty="no /batches",
        ),
        figure(
            "Done",
            "Files whose results wait to be fetched, until they expire.",
            jobs("done"),
            "none",
            empty="no /batches",
        ),
        figure(
            "Rows per second",
            "Rows scored over the last 5 minutes, by all replicas.",
            f"sum(rate(hetlm_batch_rows_total{{{_I}}}[5m]))",
            "suffix: rows/s",
            alert="HetlmBatchStuck",
            empty="no /batches",
            decimals=1,
        ),
        figure(
            "Time left",
            "Of the file that takes longest, at the speed of the last 5 minutes.",
            f"max({_LEFT} / ({_SPEED} > 0) > 0)",
            "s",
            empty="nothing under way",
        ),
        figure(
            "Rows not well, 15 min",
            "Share of the rows that have a problem instead of a prediction, or the fallback's one. Problems are the "
            "file's own: the column `problem` of its result names them.",
            _BAD_ROWS,
            "percentunit",
            up_to(0.01, 0.05),
            alert="HetlmBatchFallbacks",
            empty="no rows",
            decimals=1,
        ),
        figure(
            "Not deleted yet",
            "Files that were to be deleted and could not be: they hold histories. The log names them; it is tried "
            "again every half minute.",
            f"sum(hetlm_batch_not_removed{{{_I}}})",
            "none",
            NONE,
            alert="HetlmBatchNotRemoved",
            empty="no /batches",
        ),
    )


def _work() -> Sequence[AnyPanel]:
    return (
        curves(
            "Files by state",
            "All that are kept. `queued` that only grows: more comes than can be done.",
            "none",
            Query(f"sum by (state) (hetlm_batch_jobs{{{_I}}})", "{{state}}"),
            stacked=True,
            alert="HetlmBatchesWait",
        ),
        curves(
            "Rows by what came out",
            "`problem`: the row itself is wrong. `engine_down`: the fallback's answer, after several tries.",
            "suffix: rows/s",
            Query(f"sum by (result) (rate(hetlm_batch_rows_total{{{_I}}}{_NOW}))", "{{result}}"),
            stacked=True,
            alert="HetlmBatchFallbacks",
        ),
        curves(
            "Progress of the file under way",
            "Share of its rows that is done. Where the line lies flat, the log says why, or online requests take all "
            "there is.",
            "percentunit",
            Query(f"hetlm_batch_progress{{{_I}}}", "{{instance}}"),
            most=1,
            alert="HetlmBatchStuck",
        ),
        curves(
            "Rows left",
            "Of the file under way.",
            "short",
            Query(_LEFT, "{{instance}}"),
            alert="HetlmBatchStuck",
        ),
        curves(
            "Time left, then",
            "Of the file under way, at the speed of the 5 minutes before.",
            "s",
            Query(f"{_LEFT} / ({_SPEED} > 0)", "{{instance}}"),
            alert="HetlmBatchStuck",
        ),
        curves(
            "Chunks made safe",
            "Chunks of rows written to the disk: after a crash a file goes on from its last one.",
            "suffix: chunks/s",
            Query(f"sum by (instance) (rate(hetlm_batch_chunks_total{{{_I}}}{_NOW}))", "{{instance}}"),
            alert="HetlmBatchStuck",
        ),
    )


def _beside() -> Sequence[AnyPanel]:
    return (
        curves(
            "Rows that stand back",
            "How many rows wait, on average, because online requests come first. They should: a file has time.",
            "suffix: rows",
            Query(f"sum by (instance) (rate(hetlm_batch_waited_seconds_total{{{_I}}}{_NOW}))", "{{instance}}"),
        ),
        curves(
            "Wait at the entrance, p95",
            "How long rows and items of /predict/batch waited for their turn in the engine.",
            "s",
            Query(
                "histogram_quantile(0.95, sum by (le)"
                f' (rate(hetlm_admission_wait_seconds_bucket{{{_I}, source="batch"}}{_NOW})))',
                "p95",
            ),
        ),
        curves(
            "POST /predict, p95",
            "What online requests feel of it: within a quarter of what it is without files. The red line is the "
            "objective, for 99 of 100.",
            "s",
            Query(
                "histogram_quantile(0.95, sum by (le)"
                f' (rate(hetlm_request_seconds_bucket{{{_I}, route="/predict"}}{_NOW})))',
                "p95",
            ),
            steps=((None, "transparent"), (WITHIN, "red")),
            alert="HetlmLatencyBurnsFast",
        ),
    )


def _kept() -> Sequence[AnyPanel]:
    return (
        curves(
            "Requests about files",
            "Files handed in, looked up, fetched and deleted, by what was answered.",
            "reqps",
            Query(
                f'sum by (route, status) (rate(hetlm_requests_total{{{_I}, route=~"/batches.*"}}{_NOW}))',
                "{{route}} {{status}}",
            ),
        ),
        curves(
            "Expired",
            "Files deleted because their time was over (HETLM_RETENTION_HOURS after their end), within a day.",
            "none",
            Query(f"sum by (instance) (increase(hetlm_batch_expired_total{{{_I}}}[1d]))", "{{instance}}"),
        ),
        curves(
            "Deleted in name only",
            "Files that are gone for their callers, while the disk still holds them. Above 0 for long: look at the "
            "directory's rights and at the disk.",
            "none",
            Query(f"hetlm_batch_not_removed{{{_I}}}", "{{instance}}"),
            alert="HetlmBatchNotRemoved",
        ),
    )
