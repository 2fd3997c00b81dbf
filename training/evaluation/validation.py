"""Users besides the evaluated ones: those that thresholds are chosen on, and those that a model is calibrated on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from browsing.calibration import Calibration
from training.calibrating import fit_calibration
from training.dataset import Dataset, Sample, Split
from training.evaluation.metrics.decisions import Threshold, choose_thresholds
from training.evaluation.metrics.probabilities import Probabilities, happenings
from training.evaluation.models import Answers
from training.evaluation.rows import Site
from training.heldout import Held, evidence_of, newest_cases

THRESHOLD_USERS = 500
"""Users on whom thresholds are chosen, where nobody says otherwise."""


def choose(samples: Sequence[Sample], users: int | None, seed: int) -> list[Sample]:
    """At most `users` of the samples, drawn by `seed`, in their own order."""
    if users is None or users >= len(samples):
        return list(samples)
    drawn = np.random.default_rng(seed).choice(len(samples), users, replace=False)
    return [samples[place] for place in sorted(drawn.tolist())]


def held(dataset: Dataset, splits: Sequence[Split], evaluated: Split, users: int, seed: int) -> list[Sample]:
    """At most `users` users of the first of `splits` that is not the evaluated one and has anybody, with the newest
    sample of each."""
    for split in splits:
        if split != evaluated and users and (samples := dataset.samples(split)):
            newest: dict[str, Sample] = {}
            for sample in samples:
                known = newest.get(sample.user_id)
                if known is None or sample.next_started_at > known.next_started_at:
                    newest[sample.user_id] = sample
            return choose(list(newest.values()), users, seed)
    return []


def calibration_cases(dataset: Dataset, evaluated: Split) -> list[Sample]:
    """What a model is calibrated on that the bundle's own calibration was not fitted to: the same cases."""
    if evaluated == "calibrate":
        return []
    samples = dataset.samples("calibrate")
    return list(newest_cases(Held(samples, np.zeros(len(samples), np.int64))).samples)


def calibrate(answers: Answers, samples: Sequence[Sample], site: Site) -> Calibration | None:
    """Fitted as training fits the bundle's; an outcome with too few cases stays uncalibrated. None for no sample."""
    if not samples:
        return None
    first = next(iter(answers.values()))
    raw = Probabilities.of(first, None).raw
    happened = happenings(site.groups(), [sample.next_session for sample in samples])
    users = [sample.user_id for sample in samples]
    return Calibration(
        outcomes={name: fit_calibration(p, happened[name], users, evidence_of(first, name)) for name, p in raw.items()}
    )


def thresholds(
    answers: Answers, samples: Sequence[Sample], site: Site, calibration: Calibration | None
) -> dict[str, Threshold]:
    """By outcome; none for no sample."""
    if not samples:
        return {}
    own = Probabilities.of(next(iter(answers.values())), calibration)
    return choose_thresholds(own, happenings(site.groups(), [sample.next_session for sample in samples]))
