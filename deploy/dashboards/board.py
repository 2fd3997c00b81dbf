"""A dashboard of rows of panels, and the variables at its top."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    CustomVariable,
    Dashboard,
    DashboardLink,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard

from deploy.dashboards.panels import SOURCE, number

TAG = "hetlm"
AnyPanel = Builder[dashboard.Panel]

FIRING = 'ALERTS{alertstate="firing", alertname=~"Hetlm.+"}'
WITHIN = 2.5
"""Seconds that the objective allows for 99 % of the /predict requests: `le` in deploy/prometheus/rules/slo.yml."""


def variable(name: str, label: str, values: str) -> QueryVariable:
    """`values`: where they come from, such as `label_values(hetlm_ready, instance)`."""
    return (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": values, "refId": name})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(dashboard.VariableOption(text="All", value="$__all"))
    )


def choice(name: str, label: str, values: Sequence[str]) -> CustomVariable:
    """One of `values`, at first the first."""
    return (
        CustomVariable(name)
        .label(label)
        .values(",".join(values))
        .options([dashboard.VariableOption(text=value, value=value, selected=value == values[0]) for value in values])
        .current(dashboard.VariableOption(text=values[0], value=values[0]))
    )


INSTANCE = variable("instance", "replica", "label_values(hetlm_ready, instance)")
VERSION = variable("version", "bundle", "label_values(hetlm_bundle_info, bundle)")
CLUSTER = variable("cluster", "cluster", "label_values(hetlm_reference_cluster_share, cluster)")


def board(
    title: str,
    uid: str,
    about: str,
    variables: Sequence[Builder[dashboard.VariableModel]],
    rows: Sequence[tuple[str, Sequence[AnyPanel]]],
    *,
    since: str = "now-6h",
) -> dashboard.Dashboard:
    """Rows of panels; each panel has the id that its title gives it."""
    made = (
        Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .variables(list(variables))
        .link(
            DashboardLink("hetlm")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .include_vars(True)
        )
        .annotation(AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True).icon_color("red").expr(FIRING))
    )
    for name, panels in rows:
        made.with_row(Row(name))
        for panel in panels:
            made.with_panel(panel)
    built = made.build()
    for drawn in built.panels or ():
        drawn.id_val = number(f"{drawn.title}/" if isinstance(drawn, dashboard.RowPanel) else drawn.title or "")
    return built
