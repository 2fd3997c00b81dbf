"""What baselines learn from: each user's known sessions in the order of time, every session once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

import numpy as np
from scipy.sparse import csr_matrix

from browsing.vocabulary import Vocabulary
from training.baselines.port import Ints
from training.dataset import Sample

Session = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Journey:
    """One user's sessions, oldest first, and when each began."""

    user_id: str
    sessions: tuple[Session, ...]
    started_at: tuple[datetime, ...]


def journeys(samples: Sequence[Sample]) -> list[Journey]:
    """One journey per user, in the order in which the users first appear.

    A user with several samples has histories that hold each other's next sessions: counted as they stand, the old
    sessions of eager users would weigh most.
    """
    known: dict[str, dict[tuple[datetime, int], Session]] = {}
    for sample in samples:
        sessions = known.setdefault(sample.user_id, {})
        twins: dict[datetime, int] = {}
        for at, session in zip(
            (*sample.history_started_at, sample.next_started_at), (*sample.history, sample.next_session), strict=True
        ):
            twin = twins[at] = twins.get(at, -1) + 1  # a log that names its sessions may begin two at once
            # Where a history was cut to its newest pages, another sample may hold the whole session.
            if len(session) > len(sessions.get((at, twin), ())):
                sessions[at, twin] = session
    return [
        Journey(user, tuple(own[key] for key in sorted(own)), tuple(at for at, _ in sorted(own)))
        for user, own in known.items()
    ]


def few(samples: Sequence[Sample], most: int, seed: int) -> list[Sample]:
    """At most `most` users' newest samples, drawn by `seed`: choices are made over users, not over samples."""
    newest: dict[str, Sample] = {}
    for sample in samples:
        known = newest.setdefault(sample.user_id, sample)
        if sample.next_started_at > known.next_started_at:
            newest[sample.user_id] = sample
    everybody = list(newest.values())
    rows = np.random.default_rng(seed).permutation(len(everybody))[:most]
    return [everybody[row] for row in sorted(rows.tolist())]


def known_ids(pages: Iterable[str], vocabulary: Vocabulary) -> list[int]:
    """The distinct ids of the pages that the vocabulary holds, in the order of their first view."""
    return list(dict.fromkeys(vocabulary.id(page) for page in pages if page in vocabulary))


def indicators(sessions: Sequence[Session], vocabulary: Vocabulary) -> csr_matrix:
    """float64 [sessions, V]: 1 where a session holds a known page."""
    ids = [known_ids(session, vocabulary) for session in sessions]
    places = np.cumsum([0, *map(len, ids)])
    columns = np.fromiter(chain.from_iterable(ids), np.int64, int(places[-1]))
    return csr_matrix((np.ones(len(columns)), columns, places), shape=(len(ids), len(vocabulary)))


def user_counts(users: Sequence[Journey], vocabulary: Vocabulary) -> Ints:
    """How many distinct users have viewed each page, int64 [V]."""
    whole = indicators([tuple(chain.from_iterable(user.sessions)) for user in users], vocabulary)
    counts: Ints = np.asarray(whole.sum(0)).ravel().astype(np.int64)
    return counts
