"""What a file is scored with: one version of the bundle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from service.schemas import PredictRequest, PredictResponse

Answer = Callable[[PredictRequest, str], Awaitable[PredictResponse]]


class VersionGone(Exception):
    """This version answers no more: ask which one is served, and begin with that."""


@dataclass(frozen=True, slots=True)
class Served:
    """`outcomes`: those of the version. `answer`: as for `POST /predict`, by this version and by no other, whichever is
    served to visitors meanwhile; raises `VersionGone` from the moment on at which another takes over, also for what is
    under way then."""

    version: str
    outcomes: Sequence[str]
    answer: Answer
