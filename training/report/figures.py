"""Drawings as inline SVG: matplotlib's, in the page's own colours, so that they follow its light and dark scheme.

matplotlib draws in stand-in colours that `_inline` replaces by the style sheet's variables. Texts from data never enter
a drawing: they stand in the legend, which is HTML.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

COLOURS = 8
INK, LINE = "#f1f1f1", "#f2f2f2"
WIDTH = 6.6
"""Inches at 72 points."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Reading:
    """A point with its interval; `n` of them stand behind it."""

    x: float
    y: float
    low: float
    high: float
    n: int


def colour(series: int) -> str:
    """The stand-in for the style sheet's `--c0` to `--c7`."""
    return f"#f0f00{series % COLOURS}"


def lines(alt: str, series: Mapping[str, Points], x: str, y: str) -> Markup:
    """One line per series, in the order of the legend."""
    with _axes(alt, x, y) as (axes, done):
        for place, points in enumerate(series.values()):
            xs, ys = [p[0] for p in points], [p[1] for p in points]
            axes.plot(xs, ys, color=colour(place), marker="o", markersize=3.5, linewidth=1.6)
        _whole(axes)
    return done[0]


def small(alt: str, panels: Sequence[tuple[str, Points]], x: str) -> Markup:
    """One line per panel, each on its own scale, under a fixed title."""
    with _panels(alt, len(panels), 1.9) as (grid, done):
        for axes, (title, points) in zip(grid, panels, strict=True):
            axes.plot([p[0] for p in points], [p[1] for p in points], color=colour(0), marker="o", markersize=3)
            axes.set_title(title, color=INK, fontsize=10)
            axes.set_xlabel(x)
            _whole(axes, 5)
    return done[0]


def stacks(alt: str, columns: Sequence[tuple[int, Mapping[int, float]]], x: str, y: str) -> Markup:
    """One stacked bar per column: (its place, height by series)."""
    with _axes(alt, x, y) as (axes, done):
        for place, heights in columns:
            base = 0.0
            for series, height in sorted(heights.items()):
                axes.bar(place, height, bottom=base, width=0.8, color=colour(series), edgecolor=LINE, linewidth=0.4)
                base += height
        _whole(axes)
    return done[0]


def steps(alt: str, points: Points, x: str, y: str) -> Markup:
    with _axes(alt, x, y, height=1.8) as (axes, done):
        axes.step([p[0] for p in points], [p[1] for p in points], where="post", color=colour(0), linewidth=1.8)
        axes.set_ylim(0, max(p[1] for p in points) + 0.6)
        axes.yaxis.set_major_locator(_whole_numbers(6))
        _whole(axes)
    return done[0]


def dots(alt: str, values: Sequence[tuple[float, int]], x: str, labels: Sequence[str]) -> Markup:
    """One row per value (value, series), the first on top. `labels`: fixed texts, none from data."""
    with _axes(alt, x, "", height=0.7 + 0.27 * len(values)) as (axes, done):
        rows = list(range(len(values), 0, -1))
        low, high = min(v for v, _ in values), max(v for v, _ in values)
        room = max((high - low) * 0.12, 1e-3)
        for (value, series), row in zip(values, rows, strict=True):
            axes.plot([low - room, value], [row, row], color=LINE, linewidth=1)
            axes.plot([value], [row], color=colour(series), marker="o", markersize=6)
            axes.annotate(f"{value:.3f}", (value, row), (7, -3), textcoords="offset points", color=INK, fontsize=8)
        axes.set_yticks(rows, labels)
        axes.set_xlim(low - room, high + 3 * room)
        axes.set_ylim(0.4, len(values) + 0.6)
        axes.grid(False)
    return done[0]


def shares(alt: str, edges: Sequence[float], series: Sequence[Sequence[float]], x: str, y: str) -> Markup:
    """Histograms over common bins: `series` of one share per bin, drawn side by side."""
    with _axes(alt, x, y) as (axes, done):
        wide = (edges[1] - edges[0]) * 0.84 / len(series)
        for place, heights in enumerate(series):
            left = [edge + (edges[1] - edges[0]) * 0.08 + place * wide for edge in edges[:-1]]
            axes.bar(left, heights, width=wide, align="edge", color=colour(place))
        axes.set_xticks(list(edges))
    return done[0]


def reliability(alt: str, panels: Sequence[tuple[str, Sequence[Reading]]]) -> Markup:
    """Predicted against observed, one panel per (fixed title, readings); the diagonal is what it should be."""
    with _panels(alt, len(panels), 3.2) as (grid, done):
        every = [r for _, readings in panels for r in readings]
        # What rarely happens has intervals far above any prediction: each axis has its own length.
        wide = min(1.0, max([0.01, *(r.x for r in every)]) * 1.1)
        high = min(1.02, max([wide, *(r.high for r in every)]) * 1.05)
        for axes, (title, readings) in zip(grid, panels, strict=True):
            axes.plot([0, wide], [0, wide], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
            most = max((r.n for r in readings), default=1)
            for r in readings:
                axes.plot([r.x, r.x], [r.low, r.high], color=colour(0), linewidth=1.2)
                size = 3 + 5 * (r.n / most) ** 0.5
                axes.plot([r.x], [r.y], color=colour(0), marker="o", markersize=size, clip_on=False)
            axes.set_title(title, color=INK, fontsize=10)
            axes.set_xlim(0, wide)
            axes.set_ylim(0, high)
            axes.set_xlabel("predicted")
        grid[0].set_ylabel("happened")
    return done[0]


def buckets(alt: str, readings: Sequence[Reading], x: str, y: str) -> Markup:
    """Per bucket, from the first: what happened as a bar with its interval, what was predicted (`x`) as a mark."""
    with _axes(alt, x, y) as (axes, done):
        for place, r in enumerate(readings, 1):
            axes.bar(place, r.y, width=0.7, color=colour(0), alpha=0.75)
            axes.plot([place, place], [r.low, r.high], color=INK, linewidth=1)
            axes.plot([place - 0.35, place + 0.35], [r.x, r.x], color=colour(1), linewidth=2.4)
        _whole(axes)
        axes.set_ylim(bottom=0)
    return done[0]


def _whole(axes: Axes, most: int = 12) -> None:
    axes.xaxis.set_major_locator(_whole_numbers(most))


def _whole_numbers(most: int) -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=most, integer=True)


@contextmanager
def _axes(alt: str, x: str, y: str, height: float = 2.7) -> Iterator[tuple[Axes, list[Markup]]]:
    with _panels(alt, 1, height) as (grid, done):
        grid[0].set_xlabel(x)
        grid[0].set_ylabel(y)
        yield grid[0], done


@contextmanager
def _panels(alt: str, panels: int, height: float = 2.9) -> Iterator[tuple[list[Axes], list[Markup]]]:
    """Axes in a row to draw on; afterwards the list holds the drawing."""
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {  # matplotlib types the keys as literals
        "svg.fonttype": "none",
        "svg.hashsalt": alt,  # ids differ from drawing to drawing, and are the same in every run
        "text.parse_math": False,
        "font.size": 9,
        "axes.edgecolor": LINE,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(1, panels, squeeze=False)[0]
        done: list[Markup] = []
        yield list(grid), done
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    done.append(_inline(buffer.getvalue(), alt))


def _inline(svg: str, alt: str) -> Markup:
    """The `<svg>` element alone: no document type, no metadata, no address, no id but those that are referred to."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"#f0f00([0-7])", r"var(--c\1)", body).replace(INK, "var(--ink)").replace(LINE, "var(--line)")
    size = re.search(r'viewBox="[^"]*"', body)
    head = f'<svg {size.group() if size else ""} role="img" aria-label="{escape(alt)}">'
    return Markup(re.sub(r"^<svg[^>]*>", lambda _: head, body, count=1))
