"""Whether the server's memory (all, and what is no file's), descriptors, threads and connections stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from loadtest.process import Sample
from loadtest.result import Trend

WARM_UP = 0.2
"""This part of the time is left out: caches fill, pools and arenas reach their sizes."""
BLOCKS = 60
LEAST = 12
_HOUR = 3_600.0
_MIB = 2.0**20

Name = Literal["memory", "anonymous", "descriptors", "threads", "connections", "tasks"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """Growth over a run is no matter up to `share` of the level or `least`, whichever is larger."""

    name: Name
    unit: str
    scale: float
    share: float
    least: float


QUANTITIES = (
    Quantity("memory", "MiB", _MIB, 0.02, 8.0),
    Quantity("anonymous", "MiB", _MIB, 0.02, 8.0),
    Quantity("descriptors", "", 1.0, 0.02, 2.0),
    Quantity("threads", "", 1.0, 0.02, 1.0),
    Quantity("connections", "", 1.0, 0.02, 2.0),
)
TASKS = Quantity("tasks", "", 1.0, 0.02, 2.0)
"""Of the service's event loop: only a service that is made to tell has them (`loadtest.soak`)."""


def trends(samples: Sequence[Sample]) -> tuple[Trend, ...] | None:
    """One per quantity; None for fewer than `LEAST` samples after the warm-up."""
    if not samples:
        return None
    first, last = samples[0].time, samples[-1].time
    kept = [sample for sample in samples if sample.time >= first + WARM_UP * (last - first)]
    if len(kept) < LEAST:
        return None
    times = np.array([sample.time for sample in kept])
    return tuple(
        trend(quantity, times, np.array([getattr(sample, quantity.name) for sample in kept]) / quantity.scale)
        for quantity in QUANTITIES
    )


def trend(quantity: Quantity, times: NDArray[np.float64], values: NDArray[np.float64]) -> Trend:
    """The Theil-Sen slope: the median over all pairs of points, which a few outliers do not move.

    Neighbouring samples of a process are much alike, so that an interval over all of them would be far too narrow; it
    is taken over the medians of at most `BLOCKS` blocks. Flat is judged by growth beyond `tolerance` that the interval
    confirms, since over a long run any wobble is significant.
    """
    blocks = min(BLOCKS, len(times))
    at = np.array([block.mean() for block in np.array_split(times, blocks)])
    level = np.array([np.median(block) for block in np.array_split(values, blocks)])
    found = stats.theilslopes(level, at)
    slope, low, high = float(found.slope), float(found.low_slope), float(found.high_slope)
    growth = slope * float(times[-1] - times[0])
    median = float(np.median(values))
    tolerance = max(quantity.share * median, quantity.least)
    return Trend(
        name=quantity.name,
        unit=quantity.unit,
        samples=len(times),
        median=median,
        slope_per_hour=slope * _HOUR,
        interval=(low * _HOUR, high * _HOUR),
        growth=growth,
        tolerance=tolerance,
        flat=growth <= tolerance or low <= 0,
    )
