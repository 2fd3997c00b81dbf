"""Every baseline by name. Nothing heavy is imported before one is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from training.baselines.port import Baseline


def _markov_mixture() -> Baseline:
    from training.baselines.markov import mixture_of_chains

    return mixture_of_chains()


def _popularity() -> Baseline:
    from training.baselines.popularity import Popularity

    return Popularity()


def _repeat() -> Baseline:
    from training.baselines.repeat import Repeat

    return Repeat()


def _markov() -> Baseline:
    from training.baselines.markov import single_chain

    return single_chain()


def _covisit() -> Baseline:
    from training.baselines.covisit import covisit

    return covisit()


def _vmis_knn() -> Baseline:
    from training.baselines.vmis_knn import vmis_knn

    return vmis_knn()


def _lightgbm() -> Baseline:
    from training.baselines.boosting import Boosting

    return Boosting()


BASELINES: Mapping[str, Callable[[], Baseline]] = MappingProxyType(
    {
        "markov_mixture": _markov_mixture,
        "popularity": _popularity,
        "repeat": _repeat,
        "markov": _markov,
        "covisit": _covisit,
        "vmis_knn": _vmis_knn,
        "lightgbm": _lightgbm,
    }
)
"""Constructors, in the order in which tables list them."""
