"""An engine driven by tables of next-token probabilities: the fake of the tests, whose every answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from browsing.engine import EngineTimeout, GenerateRequest, Path
from browsing.engines.sampling import walk


class TableEngine:
    """A first-order model per cluster.

    `tables[k]` is float64 [V, V]: row i is the distribution after token i. `failures` are raised by the next calls,
    first in, first out; `requests` keeps everything it was asked.
    """

    def __init__(self, tables: Sequence[NDArray[np.float64]]) -> None:
        self.tables = tables
        self.failures: list[Exception] = []
        self.requests: list[GenerateRequest] = []
        self.started = False

    async def start(self) -> None:
        self.started = True

    async def healthy(self) -> dict[int, bool]:
        return dict.fromkeys(range(len(self.tables)), self.started)

    async def stop(self) -> None:
        self.started = False

    async def generate(self, request: GenerateRequest) -> list[Path]:
        self.requests.append(request)
        if self.failures:
            raise self.failures.pop(0)
        if not 0 <= request.cluster < len(self.tables):
            raise ValueError(f"no cluster {request.cluster}: there are {len(self.tables)}")
        table = self.tables[request.cluster]
        for token in (*request.prompt, *request.watched, *request.forbidden):
            if not 0 <= token < len(table):
                raise ValueError(f"token id {token} is outside the vocabulary of {len(table)}")
        if request.deadline <= 0:
            raise EngineTimeout("the deadline passed before the first step")
        return walk(request, lambda prefix: table[prefix[-1]])
