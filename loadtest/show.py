"""Results on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.comparison import Comparison
from loadtest.judge import promise
from loadtest.result import Group, Latency, Pairs, Ratio, Result, Trend

WIDTH = 130
"""Columns; a figure that is cut off is none."""


def console() -> Console:
    return Console(highlight=False, width=max(Console().width, WIDTH))


def result(found: Result, console: Console) -> None:
    title = f"{found.scenario}: {found.rate:.2f} requests/s, {found.seconds:g} s, {found.arrivals}, seed {found.seed}"
    if found.compression is not None:
        title += f", the log {found.compression:,.1f} times as fast"
    console.print(Text(title, "bold"))
    if found.pairs is not None:
        _pairs(found.pairs, console)
    else:
        console.print(_groups((*found.phases, found.counted)))
    if found.trends:
        console.print(_trends(found.trends))
    lines = [_answers(found), _lag(found), *_fault(found)]
    if found.batch is not None:
        batch = found.batch
        lines.append(f"files beside it ({batch.route}): {batch.rows:,} rows, {batch.rows_per_second:.2f} a second")
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    for flag in found.flags:
        console.print(Text(f"note: {flag}", "yellow"), soft_wrap=True)
    for failure in found.failures:
        console.print(Text(f"FAILED: {failure}", "bold red"), soft_wrap=True)
    console.print(Text(promise(found), "bold green" if found.passed else "bold"), soft_wrap=True)


def _groups(groups: tuple[Group, ...]) -> Table:
    table = Table(
        box=SIMPLE_HEAD, title="milliseconds from the intended start, of correct answers", title_justify="left"
    )
    table.add_column("phase", no_wrap=True)
    for column in ("requests", "sent/s", "correct/s", "p50", "p95", "p99", "max", "p99 with lost", "cache hits"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("fallbacks")
    for group in groups:
        hits = group.embedding_hit_ratio
        if group.name == "counted":
            table.add_section()
        table.add_row(
            group.name,
            f"{group.requests:,}",
            f"{group.achieved_rate:.2f}",
            f"{group.correct_rate:.2f}",
            *_percentiles(group.latency_ms),
            _ms(group.latency_with_lost_ms.p99),
            f"{hits:.0%}" if hits is not None else "-",
            ", ".join(f"{name} {count:,}" for name, count in group.by_fallback.items() if name != "none"),
        )
    return table


def _percentiles(latency: Latency) -> tuple[str, str, str, str]:
    return _ms(latency.p50), _ms(latency.p95), _ms(latency.p99), _ms(latency.max)


def _ms(value: float | None) -> str:
    return f"{value:,.1f}" if value is not None else "never"


def _pairs(found: Pairs, console: Console) -> None:
    if found.capacity is not None and found.utilisation is not None:
        console.print(f"capacity {found.capacity:.2f} correct answers/s; utilisation {found.utilisation:.0%}")
    table = Table(box=SIMPLE_HEAD, title="milliseconds from the intended start", title_justify="left")
    for column in ("pair", "first", "p95 without", "p95 with", "ratio", "p50 without", "p50 with", "rows/s beside"):
        table.add_column(column, justify="right", no_wrap=True)
    for number, pair in enumerate(found.pairs, 1):
        alone, together = pair.without.latency_ms, pair.beside.latency_ms
        row = (_ms(alone.p95), _ms(together.p95), f"{pair.p95_ratio:.3f}", _ms(alone.p50), _ms(together.p50))
        table.add_row(str(number), pair.first, *row, f"{pair.batch.rows_per_second:.2f}")
    console.print(table)
    console.print(Text(f"p95 with a file beside it over p95 without: {ratio(found.p95_ratio)}; limit {found.limit}"))


def ratio(found: Ratio) -> str:
    inside = f", 95 % [{found.interval[0]:.3f}, {found.interval[1]:.3f}]" if found.interval is not None else ""
    return f"{found.mean:.3f}{inside}, from {found.least:.3f} to {found.most:.3f} over {found.n}"


def _trends(found: tuple[Trend, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="what the server's processes hold", title_justify="left")
    for column in ("quantity", "median", "slope per hour", "95 %", "growth", "tolerated", "judgement"):
        table.add_column(column, justify="right", no_wrap=True)
    for trend in found:
        low, high = trend.interval
        table.add_row(
            f"{trend.name} {trend.unit}".strip(),
            f"{trend.median:,.1f}",
            f"{trend.slope_per_hour:+,.2f}",
            Text(f"[{low:+,.2f}, {high:+,.2f}]"),  # as text: it is no markup
            f"{trend.growth:+,.2f}",
            f"{trend.tolerance:,.2f}",
            "flat" if trend.flat else Text("rising", "bold red"),
        )
    return table


def _answers(found: Result) -> str:
    answers = found.answers
    counts = {
        name: getattr(answers, name)
        for name in ("correct", "refused", "wrong", "lost", "unreachable", "dropped", "left", "unsteady")
    }
    line = "answers: " + ", ".join(f"{name} {count:,}" for name, count in counts.items() if count or name == "correct")
    if answers.reasons:
        line += "; " + ", ".join(f"{reason} ({count:,})" for reason, count in answers.reasons.items())
    return line


def _lag(found: Result) -> str:
    lag = found.lag
    return (
        f"generator: late by {lag.p50_ms:.1f} ms (median), {lag.p99_ms:.1f} ms (p99), {lag.max_ms:.1f} ms (most); "
        f"{lag.cpu_seconds:.1f} s of CPU, {lag.cpu_share:.0%} of a core"
    )


def _fault(found: Result) -> list[str]:
    fault = found.fault
    if fault is None:
        return []
    after = "never" if fault.recovered_after is None else f"{fault.recovered_after:.2f} s"
    line = (
        f"fault: {fault.what} at {fault.at:.1f} s; {fault.bad:,} requests not answered by the model; good again after"
    )
    return [f"{line} {after}"]


def comparison(found: Comparison, console: Console) -> None:
    words = (
        "the same arrivals, paired by tenths" if found.same_plan else "different arrivals, so that nothing is paired"
    )
    table = Table(box=SIMPLE_HEAD, title=f"{found.scenario}: {words}", title_justify="left")
    table.add_column("figure", no_wrap=True)
    for column in ("first", "second", "second/first", "paired"):
        table.add_column(column, justify="right", no_wrap=True)
    for figure in found.figures:
        table.add_row(
            figure.name,
            *("-" if value is None else f"{value:,.3f}" for value in (figure.first, figure.second, figure.ratio)),
            Text(ratio(figure.paired) if figure.paired is not None else "-"),
        )
    console.print(table)
