"""Deciding by probability: an outcome is predicted where its probability reaches a threshold chosen on other users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.evaluation.metrics.pages import Flags, Floats
from training.evaluation.metrics.probabilities import Kind, Probabilities

MIN_POSITIVES = 10
"""With fewer validation users to whom it happened no threshold is chosen: it would be the accident of a few."""

EITHER = "cart_or_purchase"
"""The paper's Cart/Purchase: the session holds a page of either outcome."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """`value`: predicted from here upward; none where `positives` among the validation `users` were too few."""

    value: float | None
    users: int
    positives: int
    kind: Kind


def members_of(name: str, outcomes: Mapping[str, object]) -> tuple[str, ...]:
    """The outcomes that have probabilities and that `name` asks for: itself, or all of them for either."""
    return tuple(outcomes) if name == EITHER else tuple(own for own in outcomes if own == name)


def choose_thresholds(validation: Probabilities, happened: Mapping[str, Flags]) -> dict[str, Threshold]:
    """Per outcome that has a probability, the threshold of the highest F1 on the validation users [N]."""
    chosen = {}
    for name, flags in happened.items():
        outcomes = members_of(name, validation.raw)
        if outcomes and len(flags):
            scores, kind = validation.score(outcomes)
            positives = int(flags.sum())
            value = best_threshold(scores, flags) if positives >= MIN_POSITIVES else None
            chosen[name] = Threshold(value, len(flags), positives, kind)
    return chosen


def best_threshold(scores: Floats, happened: Flags) -> float:
    """The score t for which predicting wherever `scores` [N] >= t has the highest F1; of equals the highest t.

    At least one must have happened.
    """
    places = np.argsort(-scores, kind="stable")
    ordered = scores[places]
    hits, predicted = np.cumsum(happened[places]), np.arange(1, len(places) + 1)
    last = np.append(ordered[1:] != ordered[:-1], True)  # equal scores are predicted together
    f1 = 2 * hits[last] / (predicted[last] + happened.sum())
    return float(ordered[last][int(np.argmax(f1))])
