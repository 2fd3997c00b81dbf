"""What visitors do, whichever pages they like: a number per visitor and behaviour, and words for much and little."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.dataset import Sample

Session = tuple[str, ...]
Floats = NDArray[np.float64]

WORDS: dict[str, tuple[str, str]] = {
    "length": ("long visits", "short visits"),
    "returns": ("returns to last pages", "starts afresh"),
    "repeats": ("sees the same pages again", "looks for new pages"),
    "back": ("goes back and forth", "goes straight on"),
    "compares": ("compares products", "does not compare"),
    "similar": ("reads similar pages", "changes the subject"),
    "down": ("goes into detail", "stays on the surface"),
    "across": ("hops between sections", "stays in one section"),
    "sessions": ("comes often", "comes rarely"),
    "cart": ("often adds to cart", "rarely adds to cart"),
    "purchase": ("often buys", "rarely buys"),
}
"""For each behaviour, what to call much of it and little of it; at most 25 characters."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """One user as far as a cluster is concerned. `sessions`: distinct ones, oldest first; `targets`: next sessions."""

    user_id: str
    sessions: tuple[Session, ...]
    targets: tuple[Session, ...]


def visitors(samples: Sequence[Sample], own: NDArray[np.int64], clusters: int) -> list[list[Visitor]]:
    """The users of each cluster. `own` [N]: the samples' clusters. A session that several of a user's samples hold
    counts once; a user whose samples fall into two clusters is a visitor of both."""
    sessions: list[dict[str, set[tuple[float, Session]]]] = [{} for _ in range(clusters)]
    targets: list[dict[str, list[Session]]] = [{} for _ in range(clusters)]
    for sample, k in zip(samples, own.tolist(), strict=True):
        seen = sessions[k].setdefault(sample.user_id, set())
        times = (*sample.history_started_at, sample.next_started_at)
        seen.update((t.timestamp(), s) for t, s in zip(times, (*sample.history, sample.next_session), strict=True))
        targets[k].setdefault(sample.user_id, []).append(sample.next_session)
    return [
        [Visitor(user, tuple(s for _, s in sorted(seen)), tuple(of[user])) for user, seen in users.items()]
        for users, of in zip(sessions, targets, strict=True)
    ]


def behaviours(visitor: Visitor, outcomes: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """The visitor's number for every key of `WORDS`; NaN where there was no occasion, or the site has no such outcome.

    length: mean page views of a session. returns: share of the later sessions that start on a page of the one before.
    repeats: share of the later sessions' views whose page an earlier session holds. back: share of the views after a
    session's first whose page this session held before. compares, down, across: shares of the steps that lead to
    another page of the same folder, into the folder of the page, or to another top folder; compares is called similar
    on a site without outcomes, which is no shop. sessions: their number. cart, purchase: share of sessions with the
    outcome.
    """
    steps = [(a, b) for session in visitor.sessions for a, b in pairwise(session) if a != b]
    later = list(pairwise(visitor.sessions))
    found = {
        "length": _mean([len(session) for session in visitor.sessions]),
        "returns": _mean([bool(after) and after[0] in before for before, after in later]),
        "repeats": repeated(visitor),
        "back": _mean([page in session[:i] for session in visitor.sessions for i, page in enumerate(session) if i]),
        "compares": math.nan,
        "similar": math.nan,
        "down": _mean([_parts(a) == _folder(b) != () for a, b in steps]),
        "across": _mean([_parts(a)[:1] != _parts(b)[:1] for a, b in steps if _parts(a) and _parts(b)]),
        "sessions": float(len(visitor.sessions)),
    }
    found["compares" if outcomes else "similar"] = _mean([_folder(a) == _folder(b) != () for a, b in steps])
    for name in ("cart", "purchase"):
        pages = frozenset(outcomes.get(name, ()))
        reached = [not pages.isdisjoint(session) for session in visitor.sessions]
        found[name] = _mean(reached) if pages else math.nan
    return found


def repeated(visitor: Visitor) -> float:
    """Share of the page views after the first session whose page an earlier session holds; NaN without such views."""
    known: set[str] = set()
    again = []
    for place, session in enumerate(visitor.sessions):
        if place:
            again += [page in known for page in session]
        known.update(session)
    return _mean(again)


def contrast(values: Floats, others: Floats) -> float:
    """Cohen's d: by how many pooled standard deviations the mean of `values` lies above that of `others`. NaN entries
    are left out; 0 where either has fewer than two left, or the difference is within two standard errors of it."""
    a, b = values[~np.isnan(values)], others[~np.isnan(others)]
    if min(len(a), len(b)) < 2:
        return 0.0
    spread = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    difference = float(a.mean() - b.mean())
    if spread < 1e-12:
        return 0.0 if abs(difference) < 1e-12 else math.copysign(10.0, difference)
    d = difference / spread
    return d if abs(d) > 2 * math.sqrt(1 / len(a) + 1 / len(b)) else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


@lru_cache(maxsize=100_000)
def _parts(page: str) -> tuple[str, ...]:
    return tuple(part for part in page.split("/") if part)


def _folder(page: str) -> tuple[str, ...]:
    return _parts(page)[:-1]
