"""Plain numbers of a history, as an analyst would compute them for a propensity model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.baselines.journeys import Session
from training.baselines.port import Outcomes

Table = NDArray[np.float32]

GAPS = 3
"""Newest pauses between sessions that have a column of their own."""
MISSING = float("nan")
HISTORY = (
    "sessions",
    "views",
    "distinct pages",
    "mean length",
    "longest",
    "last length",
    "last distinct",
    "length before last",
    "last to mean length",
    "seen before in last",
    "days known",
    "mean days between",
    "last hour",
    "last weekday",
)
OUTCOME = ("sessions with", "rate", "sessions since", "in last", "in first half rate", "views")


class Features:
    """Columns of a history. `pages`: those whose views are counted, over the history and in the last session."""

    def __init__(self, pages: Sequence[str], outcomes: Outcomes) -> None:
        self._pages = {page: place for place, page in enumerate(pages)}
        self._outcomes = {name: frozenset(own) for name, own in outcomes.items()}
        self.names: tuple[str, ...] = (
            *HISTORY,
            *(f"pause {i}" for i in range(1, GAPS + 1)),
            *(f"{name}: {column}" for name in outcomes for column in OUTCOME),
            *(f"views of {page}" for page in pages),
            *(f"views of {page} in last" for page in pages),
        )

    def table(self, histories: Sequence[tuple[Sequence[Session], Sequence[datetime]]]) -> Table:
        """float32 [N, columns], not a number where there is nothing to measure. Each history has the times at which
        its sessions began."""
        rows = np.zeros((len(histories), len(self.names)), np.float32)
        for row, (sessions, started) in zip(rows, histories, strict=True):
            numbers = [*_shape(sessions, started), *_pauses(started)]
            for own in self._outcomes.values():
                numbers += _outcome(sessions, own)
            row[: len(numbers)] = numbers
            views, last = np.split(row[len(numbers) :], 2)
            for place, session in enumerate(sessions):
                for page in session:
                    column = self._pages.get(page)
                    if column is not None:
                        views[column] += 1
                        last[column] += place == len(sessions) - 1
        return rows


def _shape(sessions: Sequence[Session], started: Sequence[datetime]) -> list[float]:
    lengths = [len(session) for session in sessions]
    if not lengths:
        return [0.0, 0.0, 0.0, *(MISSING,) * (len(HISTORY) - 3)]
    before = {page for session in sessions[:-1] for page in session}
    last = set(sessions[-1])
    mean = sum(lengths) / len(lengths)
    known = (started[-1] - started[0]).total_seconds() / 86400
    return [
        len(lengths),
        sum(lengths),
        len(before | last),
        mean,
        max(lengths),
        lengths[-1],
        len(last),
        lengths[-2] if len(lengths) > 1 else MISSING,
        lengths[-1] / mean if mean else MISSING,
        len(last & before) / len(last) if before and last else MISSING,
        known,
        known / (len(started) - 1) if len(started) > 1 else MISSING,
        started[-1].hour + started[-1].minute / 60,
        started[-1].weekday(),
    ]


def _pauses(started: Sequence[datetime]) -> list[float]:
    """Hours between the newest sessions, the newest pause first."""
    hours = [(b - a).total_seconds() / 3600 for a, b in pairwise(started)]
    return [*reversed(hours[-GAPS:]), *(MISSING,) * max(GAPS - len(hours), 0)]


def _outcome(sessions: Sequence[Session], own: frozenset[str]) -> list[float]:
    reached = [not own.isdisjoint(session) for session in sessions]
    if not reached:
        return [0.0, *(MISSING,) * (len(OUTCOME) - 1)]
    half = reached[: len(reached) // 2]
    return [
        sum(reached),
        sum(reached) / len(reached),
        reached[::-1].index(True) if any(reached) else MISSING,
        reached[-1],
        sum(half) / len(half) if half else MISSING,
        sum(page in own for session in sessions for page in session),
    ]
