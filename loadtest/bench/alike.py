"""How many visitors two encoders send to the same cluster: a dataset's selection users, by a bundle's own selector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loadtest.bench.document import Figure
from loadtest.bench.spread import Spread

if TYPE_CHECKING:
    from browsing.bundle import Bundle
    from browsing.encoder import Encoder, Vectors

History = Sequence[Sequence[str]]

ASKED = 0.995
"""The share of visitors who are routed alike."""
AT_ONCE = 64
"""Sessions."""


@dataclass(frozen=True, slots=True)
class Routing:
    """`cosine`, `least_cosine`: between the two vectors of a session, the mean and the least over distinct sessions.
    `moved`: the largest change of a cluster's probability."""

    users: int
    equal: int
    sessions: int
    cosine: float
    least_cosine: float
    moved: float

    def document(self) -> dict[str, object]:
        from browsing.calibration import wilson

        share = self.equal / self.users
        return {
            "users": self.users,
            "equal": self.equal,
            "share": share,
            "interval": wilson(share, self.users),
            "sessions": self.sessions,
            "cosine": self.cosine,
            "least_cosine": self.least_cosine,
            "largest_change_of_a_probability": self.moved,
        }

    def figure(self) -> Figure:
        return Figure(
            key="routing",
            figure="selection users whom both send to the same cluster",
            unit="share",
            better="higher",
            value=Spread.of_share(self.equal, self.users),
            limit=ASKED,
        )


def routing(
    bundle: Bundle, histories: Sequence[History], ours: Encoder, peer: Encoder, advance: Callable[[float], None]
) -> Routing:
    """Both encoders in front of the bundle's selector. `histories`: not empty, and none of them is."""
    import torch

    from browsing.encoder import pool, rounded

    distinct = list({tuple(pages): None for history in histories for pages in history})
    place = {pages: number for number, pages in enumerate(distinct)}
    vectors = [_encoded(encoder, distinct, advance) for encoder in (ours, peer)]
    probabilities = []
    for own in vectors:
        kept = rounded(own)
        pooled = [
            pool(kept[[place[tuple(pages)] for pages in history]], bundle.manifest.encoder.decay)
            for history in histories
        ]
        probabilities.append(np.asarray(bundle.selector.probabilities(torch.from_numpy(np.stack(pooled)))))
    norms = np.linalg.norm(vectors[0], axis=1) * np.linalg.norm(vectors[1], axis=1)
    cosines = (vectors[0] * vectors[1]).sum(1) / norms
    first, second = probabilities
    return Routing(
        users=len(histories),
        equal=int((first.argmax(1) == second.argmax(1)).sum()),
        sessions=len(distinct),
        cosine=float(cosines.mean()),
        least_cosine=float(cosines.min()),
        moved=float(np.abs(first - second).max()),
    )


def _encoded(encoder: Encoder, asked: Sequence[Sequence[str]], advance: Callable[[float], None]) -> Vectors:
    def parts() -> Iterator[Vectors]:
        for first in range(0, len(asked), AT_ONCE):
            part = asked[first : first + AT_ONCE]
            yield encoder.encode(part)
            advance(len(part))

    return np.concatenate(list(parts()))


def histories_of(dataset: Path) -> list[History]:
    """Of the selection users; who has none is left out. Raises `OSError` and polars' errors."""
    import polars as pl

    table = pl.read_parquet(dataset / "select.parquet", columns=["history"])
    return [history for history in table["history"].to_list() if history]
