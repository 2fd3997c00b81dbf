"""The trial of an engine's death asks for the visitors of that engine."""

from __future__ import annotations

import numpy as np

from loadtest.soak.recovery import first_of
from loadtest.visitors import walks
from loadtest.workload import Options, question


def test_the_victims_visitors_come_first_and_nobody_is_lost() -> None:
    visitors = walks(("/", "/bags", "/cart"), 5, np.random.default_rng(0))
    questions = tuple(question(visitor, number, Options()) for number, visitor in enumerate(visitors))
    ordered, clusters = first_of(questions, [0, 1, None, 1, 0], 1)
    assert clusters == [1, 1, 0, None, 0]
    assert ordered == tuple(questions[place] for place in (1, 3, 0, 2, 4))
