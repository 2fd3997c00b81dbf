"""From what became of every arrival to figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import stats

from loadtest.arrivals import Span
from loadtest.check import ACCEPTED, HONEST, reasons
from loadtest.generator import Fate
from loadtest.result import Answers, Group, Lag, Latency, Ratio, Slice

SLICES = 10
LATE_MS = 5.0
LATE_SHARE = 0.1
"""A generator is late where the 99th percentile of its lag is above both 5 ms and a tenth of the median latency."""
NEVER = ("lost", "unreachable", "dropped")


def latency(seconds: Sequence[float]) -> Latency:
    """Percentiles by nearest rank; infinity stands for an answer that never came."""
    if not seconds:
        return Latency(n=0, p50=None, p95=None, p99=None, max=None)
    values = np.percentile(np.array(seconds) * 1000, [50, 95, 99, 100], method="inverted_cdf").tolist()
    p50, p95, p99, most = (round(value, 3) if math.isfinite(value) else None for value in values)
    return Latency(n=len(seconds), p50=p50, p95=p95, p99=p99, max=most)


def correct(fates: Sequence[Fate]) -> list[float]:
    """Latencies of the correct answers, in seconds."""
    return [fate.latency for fate in fates if fate.reply.verdict.kind == "correct"]


def answers(fates: Sequence[Fate]) -> Answers:
    verdicts = [fate.reply.verdict for fate in fates]
    kinds = Counter(verdict.kind for verdict in verdicts)
    return Answers(
        accepted=sum(kinds[kind] for kind in ACCEPTED),
        honest=sum(kinds[kind] for kind in HONEST),
        correct=kinds["correct"],
        refused=kinds["refused"],
        wrong=kinds["wrong"],
        lost=kinds["lost"],
        unreachable=kinds["unreachable"],
        dropped=kinds["dropped"],
        left=kinds["left"],
        unsteady=sum(verdict.kind == "correct" and not verdict.steady for verdict in verdicts),
        reasons=reasons(verdicts),
    )


def group(name: str, fates: Sequence[Fate], span_list: Sequence[Span]) -> Group:
    """The arrivals meant to start in any of the spans, in their order."""
    own = [fate for fate in fates if any(span.start <= fate.intended < span.end for span in span_list)]
    seconds = sum(span.end - span.start for span in span_list)
    good = [fate.reply.verdict for fate in own if fate.reply.verdict.kind == "correct"]
    sent = [fate for fate in own if fate.reply.verdict.kind != "dropped"]
    overrun = max((fate.sent for fate in sent), default=0.0) - span_list[-1].end
    sessions = sum(verdict.sessions for verdict in good)
    with_lost = correct(own) + [math.inf for fate in own if fate.reply.verdict.kind in NEVER]
    return Group(
        name=name,
        start=span_list[0].start,
        end=span_list[-1].end,
        requests=len(own),
        intended_rate=round(len(own) / seconds, 4),
        achieved_rate=round(len(sent) / (seconds + max(0.0, overrun)), 4),
        correct_rate=round(len(good) / seconds, 4),
        by_status=dict(sorted(Counter(fate.reply.status for fate in own).items())),
        by_fallback=dict(sorted(Counter(verdict.fallback or "none" for verdict in good).items())),
        by_cluster=dict(sorted(Counter(str(verdict.cluster) for verdict in good).items())),
        latency_ms=latency(correct(own)),
        latency_with_lost_ms=latency(with_lost),
        embedding_hit_ratio=round(sum(verdict.cached for verdict in good) / sessions, 4) if sessions else None,
    )


def phases(fates: Sequence[Fate], every: Sequence[Span]) -> tuple[Group, ...]:
    """One per name; what comes again and again, as spikes do, is one group."""
    return tuple(
        group(name, fates, [span for span in every if span.name == name])
        for name in dict.fromkeys(span.name for span in every)
    )


def slices(fates: Sequence[Fate], start: float, end: float, count: int = SLICES) -> tuple[Slice, ...]:
    """Equal parts of the time: what two runs of one plan are paired over."""
    edges = np.linspace(start, end, count + 1).tolist()
    return tuple(
        Slice(start=a, end=b, latency_ms=latency(correct([fate for fate in fates if a <= fate.intended < b])))
        for a, b in pairwise(edges)
    )


def lag(fates: Sequence[Fate], cpu_seconds: float, wall_seconds: float) -> Lag:
    """How late the generator itself was, of all that it sent."""
    own = latency([fate.lag for fate in fates if fate.reply.verdict.kind != "dropped"])
    median = latency(correct(fates)).p50 or 0.0
    p99 = own.p99 or 0.0
    return Lag(
        p50_ms=own.p50 or 0.0,
        p99_ms=p99,
        max_ms=own.max or 0.0,
        late=p99 > max(LATE_MS, LATE_SHARE * median),
        cpu_seconds=round(cpu_seconds, 3),
        cpu_share=round(cpu_seconds / wall_seconds, 4),
    )


def ratio(values: Sequence[float]) -> Ratio:
    """Of paired figures, all positive."""
    logs = np.log(np.array(values))
    mean = float(logs.mean())
    interval = None
    if len(logs) > 1:
        half = float(stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
        interval = (math.exp(mean - half), math.exp(mean + half))
    return Ratio(n=len(logs), mean=math.exp(mean), interval=interval, least=min(values), most=max(values))
