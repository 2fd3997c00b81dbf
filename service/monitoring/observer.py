"""Watches the answers of one bundle: a few counts per request, no page and no visitor kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, get_args

from browsing.bundle import Bundle
from browsing.traffic import confidence_bin
from browsing.vocabulary import Vocabulary
from service.monitoring.bins import PageBins
from service.monitoring.families import Families
from service.monitoring.psi import Shift, compare
from service.monitoring.training import Distribution, Expected, expected_of
from service.monitoring.window import DecayingCounts

Source = Literal["online", "batch"]
"""`batch`: items of `/predict/batch` and rows of files. A file of all customers is another population than today's
visitors, and would drown them."""
LEAST = 100.0
"""Effective observations below which nothing is said."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answered request with a history. `newest`: the pages of its newest visit. `routed`: the cluster that the
    selector chose and its probability, None where it was not asked. `outcomes`: the probabilities answered, where a
    predictor gave them; the fallback's say nothing about the bundle's predictors."""

    newest: Sequence[str]
    routed: tuple[int, float] | None
    outcomes: Mapping[str, float]


class Observing(Protocol):
    """What the pipeline tells."""

    def observe(self, answered: Answered, source: Source) -> None: ...

    def waited(self, seconds: float, source: Source) -> None: ...


class Observer:
    """Implements `Observing`; made by `Monitoring.watch`."""

    def __init__(
        self,
        bundle: Bundle,
        families: Families,
        half_life: float,
        clock: Callable[[], float],
        removed: Callable[[Observer], None],
    ) -> None:
        """`half_life`: seconds after which a request weighs half as much. `removed` takes the series away."""
        self._removed = removed
        version, reference = bundle.manifest.version, bundle.reference
        bins = PageBins(reference.visits, bundle.vocabulary) if reference.visits is not None else None
        expected = expected_of(bundle, bins)
        new = partial(DecayingCounts, half_life=half_life, clock=clock)
        self._streams: dict[Source, _Stream] = {}
        for source in get_args(Source):
            windows = {name: new(len(own.shares)) for name, own in expected.items()}
            outcomes = tuple(bundle.manifest.outcomes)
            self._streams[source] = _Stream(bundle.vocabulary, bins, windows, outcomes, new(len(outcomes)))
            self._streams[source].publish(families, version, source, expected)
        for cluster, share in enumerate(expected["clusters"].shares):
            families.share.labels(version, str(cluster)).set(share)
        for outcome in bundle.manifest.outcomes:
            families.base_rate.labels(version, outcome).set(reference.outcome_rates.get(outcome, math.nan))
        if reference.visits is not None:
            families.unknown.labels(version).set(reference.visits.unknown_views)
        if reference.routing is not None:
            families.expected_confidence.labels(version).set(reference.routing.mean_confidence)

    def observe(self, answered: Answered, source: Source) -> None:
        """Once per answered request with a history."""
        self._streams[source].observe(answered)

    def waited(self, seconds: float, source: Source) -> None:
        """Once per prediction that was let in: how long it waited for that."""
        self._streams[source].wait.observe(seconds)

    def remove(self) -> None:
        """The bundle is served no longer: its series go, and what is told from now on is lost."""
        self._removed(self)


class _Stream:
    """The requests of one source. `windows`: by what the bundle knows of training; `outcomes`: their names."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        bins: PageBins | None,
        windows: dict[Distribution, DecayingCounts],
        outcomes: Sequence[str],
        probabilities: DecayingCounts,
    ) -> None:
        self._vocabulary = vocabulary
        self._bins = bins
        self._windows = windows
        self._outcomes = outcomes
        self._probabilities = probabilities

    def publish(
        self, families: Families, version: str, source: Source, expected: Mapping[Distribution, Expected]
    ) -> None:
        self.wait = families.wait.labels(version, source)
        self._confidence = families.confidence.labels(version, source)
        self._known = families.pages.labels(version, source, "known")
        self._unknown = families.pages.labels(version, source, "unknown")
        for name, own in expected.items():
            window = self._windows[name]
            families.psi.labels(version, source, name).set_function(partial(_psi, own, window))
            families.noise.labels(version, source, name).set_function(partial(_noise, own, window))
            families.size.labels(version, source, name).set_function(partial(_size, window))
        for place, outcome in enumerate(self._outcomes):
            families.outcome.labels(version, source, outcome).set_function(partial(_mean, self._probabilities, place))

    def observe(self, answered: Answered) -> None:
        views = len(answered.newest)
        if self._bins is None:
            unknown = sum(page not in self._vocabulary for page in answered.newest)
        else:
            places = self._bins.views(answered.newest)
            unknown = places.get(self._bins.unknown, 0)
            self._windows["pages"].add((place, count / views) for place, count in places.items())
        self._unknown.inc(unknown)
        self._known.inc(views - unknown)
        if answered.routed is not None:
            cluster, confidence = answered.routed
            self._confidence.observe(confidence)
            self._windows["clusters"].add(((cluster, 1.0),))
            if "confidence" in self._windows:
                self._windows["confidence"].add(((confidence_bin(confidence), 1.0),))
        if answered.outcomes:
            self._probabilities.add((i, answered.outcomes.get(name, math.nan)) for i, name in enumerate(self._outcomes))


def _shift(expected: Expected, window: DecayingCounts) -> Shift:
    size = window.effective_size
    if size < LEAST:
        return Shift(math.nan, math.nan)
    return compare(expected.shares, expected.users, window.means(), size)


def _psi(expected: Expected, window: DecayingCounts) -> float:
    return _shift(expected, window).psi


def _noise(expected: Expected, window: DecayingCounts) -> float:
    return _shift(expected, window).noise


def _size(window: DecayingCounts) -> float:
    return window.effective_size


def _mean(window: DecayingCounts, place: int) -> float:
    return window.means()[place] if window.effective_size >= LEAST else math.nan
