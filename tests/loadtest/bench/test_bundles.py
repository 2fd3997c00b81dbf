"""Bundles of random weights: what the service takes, with every cluster asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from browsing.bundle import Bundle
from loadtest.bench import bundles
from loadtest.bench.asking import questions
from loadtest.bench.errors import BenchError
from loadtest.bench.workload import Workload
from tests.loadtest.bench import making


def test_traffic_is_mixed(data: Path, work: Workload, tmp_path: Path) -> None:
    bundle = Bundle.load(making.bundle(tmp_path / "three", work, data, 3))
    asked = Counter(question.cluster for question in questions(bundle, work))
    assert len(asked) == 3
    assert max(asked.values()) <= 2 * len(work.visitors) / 3


def test_it_is_whole(bundle: Bundle) -> None:
    assert bundle.manifest.outcomes == {"cart": ("/cart",), "purchase": ("/purchase",)}
    probability, calibrated = bundle.calibration.apply("cart", 0.3, None)
    assert probability == pytest.approx(0.3)
    assert calibrated


def test_equal_asking_writes_equal_weights(data: Path, work: Workload, bundle: Bundle, tmp_path: Path) -> None:
    again = Bundle.load(making.bundle(tmp_path / "again", work, data, 2))
    assert again.manifest.version == bundle.manifest.version


def test_what_is_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="is no dataset"):
        bundles.language(tmp_path, context=64, max_steps=8)
