"""The table and the drawing of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from browsing.whole import whole
from loadtest.bench.document import Figure, Report, Side, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

WORDS = {True: "yes", False: "**no**", None: "-"}
PERCENTILES = ("p50", "p95", "p99")
ROW = 0.3
"""Inches of a figure in a drawing that grows with their number."""
FEW_TICKS = 4.0
"""A logarithmic scale whose end is at most so many times its beginning has one or two of 1, 2, 5, 10 on it."""


def table(figures: Sequence[Figure]) -> str:
    """In Markdown. Medians of the rounds, with 95 % intervals in brackets."""
    lines = ["| figure | measured | at least | held |", "|---|---|---|---|"]
    for figure in figures:
        measured = str(figure.value) if figure.value is not None else "not measured"
        gate = "-" if figure.limit is None else f"{'at most ' * (figure.better == 'lower')}{figure.limit:g}"
        lines.append(f"| {figure.figure} | {measured} | {gate} | {WORDS[figure.held]} |")
    return "\n".join(lines)


def sides(report: Report) -> str:
    """Per comparison, concurrency and subject, in Markdown: medians over the rounds."""
    lines = [
        "| comparison | concurrent | subject | per second | p50 | p95 | p99 ms | CPU ms per request | generator's |",
        "|---|---:|---|---:|---:|---:|---:|---|---:|",
    ]
    groups: dict[tuple[str, int, str], list[Side]] = {}
    for one in report.sides:
        groups.setdefault((one.comparison, one.concurrency, one.subject), []).append(one)
    for (comparison, concurrency, subject), own in groups.items():
        percentiles = " | ".join(f"{median([getattr(s.latency_ms, p) or 0.0 for s in own]):.1f}" for p in PERCENTILES)
        cpu = ", ".join(
            f"{name} {median([s.cpu_ms.get(name, 0.0) for s in own]):.1f}" for name in sorted(own[0].cpu_ms)
        )
        generator = median([s.generator_cpu_ms for s in own])
        lines.append(
            f"| {comparison} | {concurrency} | {subject} | {median([s.per_second for s in own]):.1f} | {percentiles} "
            f"| {cpu} | {generator:.2f} |"
        )
    return "\n".join(lines)


def draw(measured: Report | Study, path: Path) -> None:
    """The ratios beside their limits, as SVG; of a report, throughput and latency against concurrency, too."""
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "bench",
        "font.size": 9,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.linewidth": 0.4,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        shown = [f for f in measured.figures if f.unit == "ratio" and f.limit and f.value is not None]
        if isinstance(measured, Report):
            drawing = Drawing(figsize=(13, 4.2), layout="constrained")
            throughput, latency, ratios = drawing.subplots(1, 3, width_ratios=(1, 1, 1.3))
            _throughput(throughput, measured.sides)
            _latency(latency, measured.sides)
        else:
            drawing = Drawing(figsize=(7, 1 + ROW * len(shown)), layout="constrained")
            ratios = drawing.subplots()
        _ratios(ratios, shown)
        with whole(path) as partial:
            drawing.savefig(partial, format="svg", metadata={"Date": None, "Creator": None})


def _throughput(axes: Axes, played: Sequence[Side]) -> None:
    for subject in dict.fromkeys(s.subject for s in played):
        own = [s for s in played if s.subject == subject]
        counts = sorted({s.concurrency for s in own})
        axes.plot(counts, [median([s.per_second for s in own if s.concurrency == c]) for c in counts], "o-", ms=3)
        axes.lines[-1].set_label(subject)
    axes.set(xscale="log", yscale="log", xlabel="requests under way", ylabel="predictions per second")
    _plain(axes.xaxis, axes.yaxis)
    axes.legend(fontsize=7)


def _latency(axes: Axes, played: Sequence[Side]) -> None:
    """Of the curve, where there is one, else of the first subject."""
    chosen = [s for s in played if s.comparison == "curve"] or [s for s in played if s.subject == played[0].subject]
    counts = sorted({s.concurrency for s in chosen})
    for name in PERCENTILES:
        medians = [median([getattr(s.latency_ms, name) for s in chosen if s.concurrency == c]) for c in counts]
        axes.plot(counts, medians, "o-", ms=3, label=name)
    axes.set(xscale="log", yscale="log", xlabel="requests under way", ylabel=f"milliseconds, {chosen[0].subject}")
    _plain(axes.xaxis, axes.yaxis)
    axes.legend(fontsize=7)


def _ratios(axes: Axes, figures: Sequence[Figure]) -> None:
    """Each in units of its limit: right of the line it holds."""
    for place, figure in enumerate(reversed(figures)):
        if figure.value is None or not figure.limit:
            continue
        values = [figure.value.low, figure.value.median, figure.value.high]
        low, middle, high = sorted(v / figure.limit if figure.better == "higher" else figure.limit / v for v in values)
        axes.plot([low, high], [place, place], color="0.5", lw=1)
        axes.plot([middle], [place], "o", ms=4, color="tab:green" if figure.held else "tab:red")
    axes.axvline(1.0, color="0.3", lw=0.8)
    axes.set_yticks(range(len(figures)), [figure.key for figure in reversed(figures)], fontsize=7)
    axes.set(xscale="log", xlabel="times what is asked for (right of 1: held)")
    _plain(axes.xaxis)


def _plain(*scales: Axis) -> None:
    """Numbers beside a logarithmic scale, not powers of ten; more of them where it is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    for scale in scales:
        low, high = scale.get_view_interval()
        short = high / low <= FEW_TICKS
        scale.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)) if short else LogLocator(10, (1, 2, 5)))
        scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        scale.set_minor_formatter(NullFormatter())
