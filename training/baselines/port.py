"""The baseline port: what every control of the evaluation is asked, and what it gives back.

One contract test suite (tests/training/baselines/test_contract.py) runs over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # so that the names of the baselines can be listed without torch
    from browsing.forecast import Forecast
    from browsing.vocabulary import Vocabulary
    from training.dataset import Sample

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Advance = Callable[[float], None]
Outcomes = Mapping[str, tuple[str, ...]]
"""Each outcome's pages."""

State = TypeVar("State")


class BaselineError(ValueError):
    """A baseline that was asked too early, or data that it cannot learn from; the message says what to do."""


def ignore(_: float) -> None:
    """An `advance` for whoever shows no progress."""


class Baseline(Protocol):
    """One way to forecast next sessions without HeTLM."""

    @property
    def name(self) -> str:
        """For example "popularity"; also the value of `hetlm evaluate --model`."""

    def fit(
        self,
        train: Sequence[Sample],
        select: Sequence[Sample],
        vocabulary: Vocabulary,
        outcomes: Outcomes,
        seed: int,
    ) -> None:
        """Learn from `train`; whatever is to be chosen is chosen on `select`. Equal arguments give equal forecasts.

        Raises `BaselineError` where there is nobody to learn from or to choose on.
        """

    def forecast(self, samples: Sequence[Sample], advance: Advance = ignore) -> list[Forecast]:
        """One forecast per sample, in order, from its `history` and `history_started_at` alone; `advance(n)` as they
        are done. A sample's forecast does not depend on the others. Raises `BaselineError` before `fit`."""

    def nats(self, samples: Sequence[Sample]) -> tuple[Floats, Ints] | None:
        """The next sessions' summed nats [N] and tokens [N], `[EOS]` counted; None where it is no language model."""


def fitted(state: State | None, name: str) -> State:
    """What `fit` left behind. Raises `BaselineError` before it."""
    if state is None:
        raise BaselineError(f"the baseline {name!r} has learnt nothing yet: call fit first")
    return state


def check(name: str, train: Sequence[Sample], select: Sequence[Sample] | None = None) -> None:
    """Raises `BaselineError` where a split holds nobody; `select` is None for a baseline that has nothing to choose."""
    if not train:
        raise BaselineError(f"the baseline {name!r} has no training user to learn from")
    if select is not None and not select:
        raise BaselineError(
            f"the baseline {name!r} makes its choices on selection users, and there are none: "
            "ingest the log with a larger --select-share"
        )
