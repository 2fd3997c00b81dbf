"""A paired figure and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from browsing.calibration import wilson
from loadtest.figures import ratio


class Spread(BaseModel):
    """Over the rounds of a comparison. `low`, `high`: 95 %, Student's t (over the logarithms, for ratios); of a single
    round, itself. `median`: of what has no rounds (`of_resamples`, `of_share`) the figure itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(ge=1)
    median: float
    low: float
    high: float
    least: float
    most: float

    @classmethod
    def of_ratios(cls, values: Sequence[float]) -> Self:
        """All positive."""
        found = ratio(values)
        low, high = found.interval or (found.least, found.most)
        return cls(n=found.n, median=float(np.median(values)), low=low, high=high, least=found.least, most=found.most)

    @classmethod
    def of_amounts(cls, values: Sequence[float]) -> Self:
        found = np.array(values)
        mean, half = float(found.mean()), 0.0
        if len(found) > 1:
            half = float(stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1)) / math.sqrt(len(found))
        return cls(
            n=len(found),
            median=float(np.median(found)),
            low=mean - half,
            high=mean + half,
            least=float(found.min()),
            most=float(found.max()),
        )

    @classmethod
    def of_resamples(cls, estimate: float, resamples: Sequence[float], n: int) -> Self:
        """`estimate`, from `n` cases, and the same from cases drawn with replacement: a percentile bootstrap."""
        low, high = np.percentile(resamples, (2.5, 97.5))
        return cls(n=n, median=estimate, low=float(low), high=float(high), least=min(resamples), most=max(resamples))

    @classmethod
    def of_share(cls, count: int, n: int) -> Self:
        """`count` of `n` cases, with Wilson's interval."""
        share = count / n
        low, high = wilson(share, n)
        return cls(n=n, median=share, low=low, high=high, least=share, most=share)

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"
