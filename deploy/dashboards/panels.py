"""What the dashboards are drawn with: one way for each kind of figure, so that all of them read alike."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import heatmap, stat, statetimeline, text, timeseries
from grafana_foundation_sdk.builders.dashboard import DashboardLink, FieldColor, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

SOURCE = common.DataSourceRef(type_val="prometheus", uid="prometheus")
"""The one of `deploy/grafana/provisioning/datasources`."""
RUNBOOK = "hetlm-runbook"
"""The uid of the dashboard that shows the runbook."""
WELL, LOOK, BAD, PLAIN = "green", "orange", "red", "blue"

Steps = tuple[tuple[float | None, str], ...]
"""From which value on which colour holds; the first has no value."""


def up_to(look: float, bad: float) -> Steps:
    """Well below `look`, bad from `bad` on."""
    return (None, WELL), (look, LOOK), (bad, BAD)


def at_least(bad: float, look: float | None = None) -> Steps:
    """Bad below `bad`, well from `look` on, or from `bad` on."""
    return ((None, BAD), (bad, LOOK), (look, WELL)) if look is not None else ((None, BAD), (bad, WELL))


NEUTRAL: Steps = ((None, PLAIN),)
NONE: Steps = ((None, WELL), (1, BAD))
"""Well while there is none."""


@dataclass(frozen=True, slots=True)
class Query:
    """`legend`: Grafana's, such as `{{route}}`. `dashed`: what the others are compared with."""

    expression: str
    legend: str = ""
    dashed: bool = False


def figure(
    title: str,
    meaning: str,
    expression: str,
    unit: str,
    steps: Steps = NEUTRAL,
    *,
    alert: str | None = None,
    empty: str = "none",
    decimals: int | None = None,
    span: int = 3,
) -> stat.Panel:
    """One number, of now. `alert`: whose section of the runbook says more. `empty`: shown where there is no number."""
    panel = (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(_thresholds(steps))
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .no_value(empty)
        .color_mode(common.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(parts.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(Query(expression), "A").instant())
        .links(_links(alert))
        .height(4)
        .span(span)
    )
    return panel.decimals(decimals) if decimals is not None else panel


def curves(
    title: str,
    meaning: str,
    unit: str,
    *queries: Query,
    least: float | None = 0,
    most: float | None = None,
    steps: Steps | None = None,
    stacked: bool = False,
    logarithmic: bool = False,
    alert: str | None = None,
    span: int = 8,
) -> timeseries.Panel:
    """Curves over time. `least`, `most`: where the axis ends; None: where the data do. `steps`: drawn as lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .line_width(1)
        .fill_opacity(40 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            parts.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
        .tooltip(parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
        .links(_links(alert))
        .height(8)
        .span(span)
    )
    for letter, query in zip("ABCDEF", queries, strict=False):
        panel.with_target(_query(query, letter).range())
        if query.dashed:
            dashes = {"fill": "dash", "dash": [8, 6]}
            style = [DynamicConfigValue("custom.lineStyle", dashes), DynamicConfigValue("custom.fillOpacity", 0)]
            panel.override_by_query(letter, style)
    if least is not None:
        panel.min(least)
    if most is not None:
        panel.max(most)
    if steps is not None:
        panel.thresholds(_thresholds(steps))
        panel.thresholds_style(parts.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel.stacking(parts.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if logarithmic:
        panel.scale_distribution(parts.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(2))
    return panel


def states(
    title: str,
    meaning: str,
    query: Query,
    names: Sequence[tuple[str, str]],
    *,
    alert: str | None = None,
    span: int = 12,
) -> statetimeline.Panel:
    """What was in which state when. `names`: of the values 0, 1, ..., each with its colour."""
    known = {
        str(value): ValueMappingResult(text=name, color=colour, index=value)
        for value, (name, colour) in enumerate(names)
    }
    return (
        statetimeline.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit("none")
        .mappings([ValueMap(options=known)])
        .thresholds(_thresholds(((None, "transparent"),)))
        .show_value(common.VisibilityMode.NEVER)
        .merge_values(True)
        .legend(parts.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM))
        .with_target(_query(query, "A").range())
        .links(_links(alert))
        .height(8)
        .span(span)
    )


def heat(title: str, meaning: str, expression: str, unit: str, *, span: int = 12) -> heatmap.Panel:
    """How many were of which size when. `expression`: of a histogram's buckets by `le`; `unit`: of their bounds."""
    return (
        heatmap.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit("short")
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .with_target(_query(Query(expression, "{{le}}"), "A").range().format(PromQueryFormat.HEATMAP))
        .links(_links(None))
        .height(8)
        .span(span)
    )


def page(title: str, content: str, *, span: int = 12) -> text.Panel:
    """Markdown."""
    return text.Panel().title(title).mode(TextMode.MARKDOWN).content(content).height(10).span(span)


def number(title: str) -> int:
    """A panel's id: it stays, whatever comes before it, so that links to it do."""
    return zlib.crc32(title.encode()) & 0x7FFFFFFF


def short(expression: str) -> str:
    """With the label `version`: the first characters of the label `bundle`, for legends."""
    return f'label_replace({expression}, "version", "$1", "bundle", "(.{{8}}).*")'


def _query(query: Query, letter: str) -> Dataquery:
    return Dataquery().expr(query.expression).legend_format(query.legend).ref_id(letter).datasource(SOURCE)


def _thresholds(steps: Steps) -> ThresholdsConfig:
    made = [Threshold(value=value, color=colour) for value, colour in steps]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


def _links(alert: str | None) -> list[Builder[dashboard.DashboardLink]]:
    if alert is None:
        return []
    return [DashboardLink(f"What to do: {alert}").url(f"/d/{RUNBOOK}?viewPanel=panel-{number(alert)}")]
