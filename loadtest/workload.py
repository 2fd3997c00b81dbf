"""What is asked, and by whom: questions made once, before the run, and the order in which they come."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals import Places, Span, Times
from loadtest.visitors import Visitor, VisitorError, body

Crowd = Literal["returning", "new", "hot", "mixed"]
"""`returning`: a population whose members come again and again, by a Zipf law. `new`: nobody comes twice. `hot`: a
population of one cluster. `mixed`: seven in ten returning, two in ten new, one in ten of one cluster."""
MIXTURE = {"returning": 0.7, "new": 0.2, "hot": 0.1}


@dataclass(frozen=True, slots=True)
class Options:
    """Of every request. A visitor's seed is the visitor's own, so that equal questions have equal answers; what the 7
    days of `return_within_7_days` run from is fixed for the same reason."""

    samples: int | None = None
    top_pages: int | None = None
    deadline_ms: int | None = None
    strict: bool = False

    def document(self, visitor: Visitor, seed: int) -> dict[str, object]:
        named = {"samples": self.samples, "top_pages": self.top_pages, "deadline_ms": self.deadline_ms}
        given: dict[str, object] = {name: value for name, value in named.items() if value is not None}
        if self.strict:
            given["strict"] = True
        if visitor.started_at:
            given["as_of"] = visitor.started_at[-1].isoformat().replace("+00:00", "Z")
        return {**given, "seed": seed}


@dataclass(frozen=True, slots=True)
class Question:
    """A request's body, and what its answer is checked against. `cluster`: where the visitor is known to belong."""

    user_id: str
    body: bytes
    sessions: int
    pages: frozenset[str]
    top_pages: int
    strict: bool
    cluster: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A whole run, before it begins. `order`: the question at each of the `times`. `patience`: seconds after which the
    caller leaves, infinite for one that stays."""

    times: Times
    spans: tuple[Span, ...]
    questions: tuple[Question, ...]
    order: Places
    patience: Times

    def question(self, place: int) -> Question:
        return self.questions[int(self.order[place])]

    @property
    def seconds(self) -> float:
        return self.spans[-1].end

    @property
    def sha256(self) -> str:
        """Its identity: two runs of one plan can be paired, arrival by arrival."""
        digest = hashlib.sha256()
        digest.update(np.round(self.times, 9).tobytes())
        digest.update(np.round(np.nan_to_num(self.patience, posinf=-1.0), 9).tobytes())
        for place in self.order.tolist():
            digest.update(hashlib.sha256(self.questions[place].body).digest())
        return digest.hexdigest()


DEFAULT_TOP_PAGES = 20


def question(visitor: Visitor, number: int, options: Options) -> Question:
    """`number`: makes the user id and the seed."""
    user_id = f"visitor-{number}"
    return Question(
        user_id=user_id,
        body=body(visitor, user_id, options.document(visitor, number)),
        sessions=len(visitor.sessions),
        pages=frozenset(page for session in visitor.sessions for page in session),
        top_pages=options.top_pages or DEFAULT_TOP_PAGES,
        strict=options.strict,
    )


def zipf(population: int, exponent: float, count: int, generator: np.random.Generator) -> Places:
    """`count` members of a population, the r-th most frequent with a chance in proportion to r ** -`exponent`."""
    weights = np.arange(1, population + 1, dtype=np.float64) ** -exponent
    edges = np.cumsum(weights / weights.sum())
    drawn = np.searchsorted(edges, generator.random(count), side="right")
    return np.minimum(drawn, population - 1).astype(np.int64)


def order(
    crowd: Crowd,
    count: int,
    generator: np.random.Generator,
    *,
    population: Sequence[int],
    fresh: Sequence[int],
    hot: Sequence[int],
    exponent: float,
) -> Places:
    """Who comes at each of `count` arrivals: places among the questions. `population`, `hot`: those who come again,
    the most frequent first; `fresh`: those who come once. Raises `VisitorError` where too few of them are there."""
    sources: dict[str, NDArray[np.int64]] = {}
    kinds = np.full(count, crowd, dtype=object)
    if crowd == "mixed":
        kinds = generator.choice(list(MIXTURE), count, p=list(MIXTURE.values()))
    chosen = np.zeros(count, np.int64)
    for name, own in (("returning", population), ("hot", hot)):
        if (kinds == name).any():
            if not own:
                raise VisitorError(f"there is no visitor for the crowd {name!r}: raise --visitors")
            sources[name] = np.array(own)[zipf(len(own), exponent, count, generator)]
            chosen = np.where(kinds == name, sources[name], chosen)
    new = np.flatnonzero(kinds == "new")
    if len(new) > len(fresh):
        raise VisitorError(
            f"{len(new):,} visitors are needed that come only once, and there are {len(fresh):,}: lower --rate, "
            "--seconds or --visitors, or take --bundle, whose walks never end"
        )
    chosen[new] = np.array(fresh[: len(new)], np.int64)
    return chosen


def patience(count: int, leaving: float, mean: float, generator: np.random.Generator) -> Times:
    """A share `leaving` of the callers goes after an exponential time with `mean` seconds; the others stay."""
    leaves = generator.random(count) < leaving
    return np.where(leaves, generator.exponential(mean, count), np.inf)
