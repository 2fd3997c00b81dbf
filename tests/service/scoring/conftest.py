"""A bundle that a whole command can serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that needs nothing but itself."""
    directory = tmp_path_factory.mktemp("own") / "bundle"
    tiny.bundle(directory, encoder="markov")
    return directory
