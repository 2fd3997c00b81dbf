"""One small workload, and bundles that were written for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from browsing.bundle import Bundle
from loadtest.bench.workload import Workload
from tests.loadtest.bench import making


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench") / "dataset"


@pytest.fixture(scope="session")
def work(data: Path) -> Workload:
    return making.work(data)


@pytest.fixture(scope="session")
def bundle(data: Path, work: Workload) -> Bundle:
    """Of two clusters."""
    return Bundle.load(making.bundle(data.parent / "two", work, data, 2))
