"""Questions for a load tool that has its own loop: one after another, each answer checked."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from loadtest.check import Checker, Verdict
from loadtest.client import JSON
from loadtest.planning import Asked, People, open_source, people_of
from loadtest.scenarios import STEADY
from loadtest.workload import Question, zipf

_DRAWN = 1_000


@lru_cache(maxsize=4)
def people(bundle: Path | None, dataset: Path | None, visitors: int, seed: int) -> tuple[People, frozenset[str] | None]:
    """The population, the same for all of the tool's users, and the vocabulary where it is known. Raises
    `VisitorError`."""
    asked = Asked("", bundle=bundle, dataset=dataset, visitors=visitors, seed=seed)
    source = open_source(asked)
    return people_of(STEADY, asked, source, 0), source.known


class Turns:
    """Of one of the tool's users. `version`: of the bundle that is served."""

    def __init__(self, people: People, known: frozenset[str] | None, version: str, *, exponent: float = 1.0) -> None:
        self._people = people
        self._exponent = exponent
        self._checker = Checker({version}, known)
        self._generator = np.random.default_rng()
        self._waiting: list[int] = []
        self._run = f"load-{secrets.token_hex(4)}"
        self._count = 0

    def next(self) -> tuple[Question, dict[str, str]]:
        """A question, and its request's headers."""
        if not self._waiting:
            self._waiting = zipf(len(self._people.population), self._exponent, _DRAWN, self._generator).tolist()
        place = self._people.population[self._waiting.pop()]
        self._count += 1
        headers = {"Content-Type": JSON, "X-Request-Id": f"{self._run}-{self._count}"}
        return self._people.questions[place], headers

    def check(
        self, question: Question, sent: Mapping[str, str], status: int, headers: Mapping[str, str], content: bytes
    ) -> Verdict:
        """`sent`: the headers that `next` gave."""
        lowered = {name.lower(): value for name, value in headers.items()}
        return self._checker.check(question, sent["X-Request-Id"], status, lowered, content)
