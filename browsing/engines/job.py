"""One request inside the embedded engine, and what runs many of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Protocol

from browsing.engine import EngineTimeout, GenerateRequest, Path
from browsing.engines.sampling import noise

Waited = Callable[[int, float], None]
"""Takes a request's cluster, and the seconds from its submission until its first paths joined a step."""


class Job:
    """One request on its way: its random numbers, the paths finished so far, and where the answer goes."""

    def __init__(self, request: GenerateRequest, waited: Waited | None = None) -> None:
        """`waited`: is told once, in the thread that computes."""
        self.request = request
        self._submitted = time.monotonic()
        self._waited = waited
        self.expires = self._submitted + request.deadline
        self.future: Future[list[Path]] = Future()
        self.uniforms = noise(request)
        self._paths: dict[int, Path] = {}

    def join(self) -> None:
        """Some of its paths join a step; the first time, its waiting ends."""
        waited, self._waited = self._waited, None
        if waited is not None:
            waited(self.request.cluster, time.monotonic() - self._submitted)

    def add(self, sample: int, path: Path) -> None:
        self._paths[sample] = path
        if len(self._paths) == self.request.samples:
            self._settle(lambda: self.future.set_result([self._paths[s] for s in range(self.request.samples)]))

    def fail(self, error: Exception) -> None:
        self._settle(lambda: self.future.set_exception(error))

    def over(self) -> bool:
        """Whether nobody waits for more: answered, cancelled, or out of time."""
        if not self.future.done() and time.monotonic() > self.expires:
            self.fail(EngineTimeout(f"no complete answer within {self.request.deadline} s"))
        return self.future.done()

    def _settle(self, settle: Callable[[], None]) -> None:
        try:
            settle()
        except InvalidStateError:  # cancelled in this very moment
            return


@dataclass(frozen=True, slots=True)
class Part:
    """Samples `first`..`last - 1` of a job: what one batch takes of it."""

    job: Job
    first: int
    last: int

    @property
    def rows(self) -> int:
        return self.last - self.first


def parts(jobs: Sequence[Job], max_rows: int) -> list[Part]:
    """The jobs in pieces of at most `max_rows` paths, in order."""
    return [
        Part(job, first, min(first + max_rows, job.request.samples))
        for job in jobs
        for first in range(0, job.request.samples, max_rows)
    ]


class Core(Protocol):
    """Computes jobs, in the one thread that calls it."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """They are worked on by the next steps."""

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""

    def step(self) -> None:
        """Bring everything a little further. A job's error is its future's; what is raised ended the core."""

    def fail_all(self, error: Exception) -> None:
        """Every job that is not answered."""
