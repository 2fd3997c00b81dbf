"""When requests are meant to start: at a fixed rate, as a Poisson process, or as a log's visitors really came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["fixed", "poisson", "replay"]
Times = NDArray[np.float64]
"""Seconds from a run's start, increasing."""
Places = NDArray[np.int64]


class ArrivalError(ValueError):
    """Arrivals that cannot be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run. `share`: of its time. `factor`: on its rate. `counted`: whether its latencies are reported;
    answers are checked in any phase."""

    name: str
    share: float
    factor: float = 1.0
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Span:
    """A phase in seconds from the run's start."""

    name: str
    start: float
    end: float
    counted: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """`rows`: who arrives at each of the `times`, as places in the log. `compression`: log seconds per second."""

    times: Times
    rows: Places
    compression: float


def spans(phases: Sequence[Phase], seconds: float) -> tuple[Span, ...]:
    """The phases one after another, over `seconds` in all."""
    total = sum(phase.share for phase in phases)
    ends = np.cumsum([phase.share / total * seconds for phase in phases]).tolist()
    return tuple(
        Span(phase.name, start, end, phase.counted)
        for phase, start, end in zip(phases, [0.0, *ends[:-1]], ends, strict=True)
    )


def in_phases(
    kind: Literal["fixed", "poisson"],
    phases: Sequence[Phase],
    rate: float,
    seconds: float,
    generator: np.random.Generator,
) -> Times:
    """`rate` arrivals per second, times each phase's factor."""
    pieces = []
    for phase, span in zip(phases, spans(phases, seconds), strict=True):
        own, length = rate * phase.factor, span.end - span.start
        piece = fixed(own, length) if kind == "fixed" else poisson(own, length, generator)
        pieces.append(span.start + piece)
    return np.concatenate(pieces)


def fixed(rate: float, seconds: float) -> Times:
    """One every 1 / `rate` seconds, the first at once."""
    return np.arange(round(rate * seconds), dtype=np.float64) / rate


def poisson(rate: float, seconds: float, generator: np.random.Generator) -> Times:
    """A Poisson process: a Poisson number of arrivals, each anywhere in the time."""
    return np.sort(generator.random(int(generator.poisson(rate * seconds))) * seconds)


def replay(stamps: Sequence[datetime], rate: float, seconds: float, generator: np.random.Generator) -> Replay:
    """`rate * seconds` successive arrivals of the log, from a place drawn by the seed, compressed in time (or
    stretched) to `seconds`: their bursts and lulls stay. A log with too few arrivals begins again.

    Raises `ArrivalError` where the log's arrivals lie at one moment, or are fewer than two.
    """
    wanted = max(2, round(rate * seconds))
    if len(stamps) < 2:
        raise ArrivalError("a replay needs at least 2 arrivals in the log")
    moments = np.array([stamp.timestamp() for stamp in stamps])
    rows = np.argsort(moments, kind="stable")
    ordered = moments[rows] - moments.min()
    rounds = -(-wanted // len(rows))
    if rounds > 1:
        period = ordered[-1] * len(rows) / (len(rows) - 1)  # the mean gap before it begins again
        ordered = np.concatenate([ordered + i * period for i in range(rounds)])
        rows = np.tile(rows, rounds)
    first = int(generator.integers(len(rows) - wanted + 1))
    window = ordered[first : first + wanted]
    length = window[-1] - window[0]
    if length <= 0:
        raise ArrivalError("the log's arrivals lie at one moment: take --arrivals poisson")
    compression = length / (seconds * (wanted - 1) / wanted)  # so that the mean rate is the one asked for
    return Replay((window - window[0]) / compression, rows[first : first + wanted].astype(np.int64), float(compression))
