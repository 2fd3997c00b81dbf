"""Three tiny bundles for all tests, and a folder of one's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.service.versions.building import ENDS, Known, alone, copied, three


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three(tmp_path_factory.mktemp("versions"))


@pytest.fixture(scope="session")
def known(template: Path) -> Known:
    """Each version's answers when it is served by itself."""
    return {name: asyncio.run(alone(template, name)) for name in ENDS}


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """With `v1` activated."""
    return copied(template, tmp_path / "bundles")
