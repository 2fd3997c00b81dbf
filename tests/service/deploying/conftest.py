"""Tiny bundles of any number of clusters, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny

Bundles = Callable[[int], Path]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    root = tmp_path_factory.mktemp("bundles")

    def made(clusters: int) -> Path:
        path = root / f"of-{clusters}"
        if not path.exists():
            tiny.bundle(path, clusters, encoder="predictor")
        return path

    return made
