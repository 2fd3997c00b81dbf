"""The workload file: whose next session is asked for, and how. Every side of a comparison reads the same one."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from browsing.whole import write_whole
from loadtest.bench.errors import BenchError
from loadtest.visitors import TestSplit, Visitor, read_bundle, read_dataset, walks
from loadtest.workload import Options, Question, question

DEADLINE_MS = 60_000
"""Of every request: far longer than any answer takes, so that nobody is spared work by being late."""


class WorkloadError(BenchError):
    """No workload can be had; the message names the file and the remedy."""


class _Visitor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: tuple[tuple[str, ...], ...] = Field(min_length=1)
    started_at: tuple[datetime, ...]


class Workload(BaseModel):
    """Request `n` is visitor `n` modulo their number, with the seed `n`: no two requests are equal, so that nothing is
    answered by sharing, while every session comes again, so that its embedding is cached.

    Holds histories, as personal as the log they are from: it stays where the dataset is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["bench-workload"] = "bench-workload"
    schema_version: Literal[1] = 1
    source: Literal["dataset", "walks"]
    samples: int = Field(default=16, ge=2)
    top_pages: int = Field(default=20, ge=1)
    visitors: tuple[_Visitor, ...] = Field(min_length=1)

    @cached_property
    def people(self) -> tuple[Visitor, ...]:
        return tuple(Visitor(own.sessions, own.started_at) for own in self.visitors)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def place(self, number: int) -> int:
        """Which visitor request `number` is about."""
        return number % len(self.visitors)

    def question(self, number: int) -> Question:
        """The body of request `number`, and what its answer is checked against."""
        options = Options(samples=self.samples, top_pages=self.top_pages, deadline_ms=DEADLINE_MS, strict=True)
        return question(self.people[self.place(number)], number, options)

    def write(self, path: Path) -> None:
        write_whole(path, self.model_dump_json() + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `WorkloadError`."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise WorkloadError(f"{path}: no workload can be read there ({type(error).__name__})") from None


def of_dataset(root: Path, visitors: int) -> Workload:
    """At most `visitors` users with a history, evenly spread over the test split. Raises `WorkloadError`,
    `VisitorError`."""
    split = read_dataset(root)
    found = [person for person in split.visitors(_spread(split, visitors)) if person.sessions]
    if not found:
        raise WorkloadError(f"{root}: nobody in its test split has an earlier session")
    return _of(found, "dataset")


def of_walks(bundle: Path, visitors: int) -> Workload:
    """Random walks over a bundle's pages. Raises `VisitorError`."""
    return _of(walks(read_bundle(bundle).pages, visitors, np.random.default_rng(0)), "walks")


def _of(people: list[Visitor] | tuple[Visitor, ...], source: Literal["dataset", "walks"]) -> Workload:
    return Workload(
        source=source, visitors=tuple(_Visitor(sessions=p.sessions, started_at=p.started_at) for p in people)
    )


def _spread(split: TestSplit, visitors: int) -> list[int]:
    count = min(visitors, len(split))
    return [place * len(split) // count for place in range(count)]
