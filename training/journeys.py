"""Journeys: sessions that a cluster's predictor generates for a visitor of whom it knows nothing.

The prompt is `[BOS]` alone, so no user's history is behind a journey, and the engine is the one that serves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from browsing.bundle import Limits
from browsing.console import progress
from browsing.engine import GenerateRequest
from browsing.engines.local import LocalEngine
from browsing.profiles import Journey
from browsing.vocabulary import BOS, UNK, Vocabulary
from training.batches import seed_of
from training.dataset import Sample

SAMPLES = 128
JOURNEYS = 3
PERSONAL_PAGES = 3
"""A session of so many pages may be somebody's own; a shorter one says no more than that its pages exist."""

Session = tuple[str, ...]


def generate_journeys(
    predictors: Sequence[Path],
    vocabulary: Vocabulary,
    limits: Limits,
    recorded: Collection[Session] = frozenset(),
    seed: int = 0,
    shown: Sequence[Collection[str]] | None = None,
) -> list[tuple[Journey, ...]]:
    """Up to `JOURNEYS` of each cluster. `predictors`: one directory each; `recorded`: sessions that may not be shown;
    `shown`: per cluster, the pages that may, by default all. Both leave out whole sessions.

    Raises `EngineError` for a predictor that cannot be loaded.
    """
    engine = LocalEngine(predictors)
    chosen = []
    with progress("generating journeys", len(predictors), "clusters") as advance:
        for k in range(len(predictors)):
            request = GenerateRequest(
                k,
                (BOS,),
                SAMPLES,
                limits.max_steps,
                forbidden=(UNK,),
                seed=seed_of(seed, "journeys") % 2**31,
            )
            [paths] = engine.generate_batch([request])
            sessions = [tuple(vocabulary.decode(path.tokens)) for path in paths if path.finished]
            allowed = [s for s in sessions if s and s not in recorded]
            if shown is not None:
                allowed = [s for s in allowed if all(page in shown[k] for page in s)]
            chosen.append(spread(allowed))
            advance(1)
    return chosen


def rare_sessions(samples: Sequence[Sample], min_users: int) -> frozenset[Session]:
    """Sessions of `PERSONAL_PAGES` or more pages that fewer than `min_users` users walked in exactly this way: should a
    predictor have learnt one by heart, it is still not shown."""
    walked = {
        (sample.user_id, session)
        for sample in samples
        for session in (*sample.history, sample.next_session)
        if len(session) >= PERSONAL_PAGES
    }
    users = Counter(session for _, session in walked)
    return frozenset(session for session, count in users.items() if count < min_users)


def spread(sessions: Sequence[Session], count: int = JOURNEYS) -> tuple[Journey, ...]:
    """The sessions that together stand best for all of them: each next one raises the most the mean, over all sessions,
    of the likeness to the nearest chosen one (greedy facility location: likely ones first, then different ones).

    Likeness is the intersection over union of two sessions' pages and steps. Heaviest first.
    """
    if not sessions:
        return ()
    candidates = sorted(set(sessions))
    traits = [_traits(session) for session in candidates]
    counts = Counter(sessions)
    mass = np.array([counts[session] for session in candidates], np.float64)
    likeness = np.array([[len(a & b) / len(a | b) for b in traits] for a in traits])
    nearest = np.zeros(len(candidates))
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        gains = (np.maximum(likeness, nearest) - nearest) @ mass
        gains[chosen] = -1.0
        best = int(gains.argmax())
        chosen.append(best)
        nearest = np.maximum(nearest, likeness[best])
    closest = likeness[chosen].argmax(0)
    weights = [float(mass[closest == place].sum() / mass.sum()) for place in range(len(chosen))]
    journeys = [Journey(pages=candidates[c], weight=w) for c, w in zip(chosen, weights, strict=True)]
    return tuple(sorted(journeys, key=lambda journey: -journey.weight))


def _traits(session: Session) -> frozenset[tuple[str, ...]]:
    return frozenset([(page,) for page in session] + list(pairwise(session)))
