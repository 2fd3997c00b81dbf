"""From a baseline's numbers to the forecasts that an engine's paths would give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from browsing.forecast import Forecast, Options, OutcomeForecast, PageForecast
from training.baselines.port import Outcomes
from training.dataset import Sample

TOP_PAGES = Options().top_pages
"""Pages with a probability in an answer, as in the service's."""


def base_rates(samples: Sequence[Sample], outcomes: Outcomes) -> dict[str, OutcomeForecast]:
    """Each outcome's share of the next sessions: the answer of a baseline that says nothing about outcomes."""
    return {
        name: certain(float(np.mean([not own.isdisjoint(sample.next_session) for sample in samples])))
        for name, own in ((name, frozenset(pages)) for name, pages in outcomes.items())
    }


def certain(probability: float) -> OutcomeForecast:
    """A probability that no sampling has blurred: an interval is over paths, and there are none."""
    return OutcomeForecast(probability, (probability, probability))


def answer(
    next_session: Sequence[str],
    pages: Iterable[tuple[str, float]],
    history: Sequence[Sequence[str]],
    outcomes: dict[str, OutcomeForecast],
) -> Forecast:
    """`pages`: with their probabilities, the likeliest first; at most `TOP_PAGES` are answered."""
    seen = frozenset(page for session in history for page in session)
    return Forecast(
        next_session=tuple(next_session),
        pages=tuple(PageForecast(page, p, page in seen, "count") for page, p in list(pages)[:TOP_PAGES]),
        outcomes=dict(outcomes),
        unfinished_paths=0.0,
    )
