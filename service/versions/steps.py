"""The steps of a rollout: which one is under way, how long each took, and in which one it failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from browsing.engine import EngineError
from service.versions.warmup import WarmupError

Step = Literal["find", "load", "fit", "start", "warm", "remember", "drain", "stop"]
MOST_WORDS = 2_000
"""Characters of an engine's last words that are repeated."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is kept of a failed rollout: the exception would keep all that its frames hold, a whole bundle among it."""

    step: Step
    reason: str


class StepFailed(Exception):
    """`reason`: in words, for the operator. The cause is the exception itself."""

    def __init__(self, step: Step, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step: Step = step
        self.reason = reason


class Steps:
    """`took`: seconds of each finished step, in order."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.current: Step = "find"
        self.took: dict[Step, float] = {}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @contextmanager
    def step(self, name: Step) -> Iterator[None]:
        """Raises `StepFailed` for what goes wrong in it."""
        self.current = name
        began = time.monotonic()
        try:
            yield
        except StepFailed:
            raise
        except Exception as error:
            raise StepFailed(name, in_words(error)) from error
        self.took[name] = self.took.get(name, 0.0) + time.monotonic() - began


def in_words(error: Exception) -> str:
    """What went wrong with a bundle or an engine: no visitor had a part in it yet, so that messages can be shown."""
    if isinstance(error, OSError) and error.strerror:
        words = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, (EngineError, WarmupError, ValueError)) and str(error):
        words = str(error)
    else:
        words = f"{type(error).__name__}; the log has its place"
    return words if len(words) <= MOST_WORDS else f"... {words[-MOST_WORDS:]}"
