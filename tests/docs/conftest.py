"""One small world for all documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.docs.world import World, made


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with TemporaryDirectory(prefix="docs-") as folder, made(Path(folder)) as found:  # a socket's path has to be short
        yield found
