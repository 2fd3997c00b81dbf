"""Predictors of random weights: as large as said, and with sessions of about the length that is meant."""

from __future__ import annotations

import numpy as np
import pytest

from browsing.bundle import Bundle, predictor_directory
from browsing.engine import GenerateRequest
from browsing.engines.local import LocalEngine
from loadtest.bench.asking import questions
from loadtest.bench.plan import parameters
from loadtest.bench.predictors import END, SIZES, Size
from loadtest.bench.workload import Workload
from tests.loadtest.bench.making import PAGES, TINY


def test_parameters_are_counted(bundle: Bundle) -> None:
    assert parameters(bundle.root) == TINY.parameters(len(PAGES) + 4)


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_a_larger_one_is_no_larger_than_needed(factor: int) -> None:
    for size in SIZES.values():
        grown = size.times(factor, 404)
        assert grown.parameters(404) >= factor * size.parameters(404)
        less = Size(grown.hidden - 32, size.layers, size.inner * (grown.hidden - 32) // size.hidden)
        assert less.parameters(404) < factor * size.parameters(404)


def test_other_families_are_refused() -> None:
    with pytest.raises(ValueError, match="need Llamas"):
        Size.of({"model_type": "gpt2"})


def test_sessions_end(bundle: Bundle, work: Workload) -> None:
    """About one in eight steps ends a session, so that paths are neither empty nor all cut."""
    engine = LocalEngine([predictor_directory(bundle.root, k) for k in range(bundle.clusters)])
    asked = [
        GenerateRequest(question.cluster, question.prompt, samples=32, max_steps=1, seed=seed)
        for seed, question in enumerate(questions(bundle, work))
    ]
    ended = [path.finished for paths in engine.generate_batch(asked) for path in paths]
    assert 0.4 * END < np.mean(ended) < 2.5 * END
