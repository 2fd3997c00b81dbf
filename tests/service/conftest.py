"""One tiny bundle for all tests of the service; a real Redis for those that ask for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from browsing.bundle import Bundle
from tests import tiny
from tests.service.redis_server import RedisServer, installed, packaged


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("bundle") / "tiny"
    tiny.bundle(root)
    return Bundle.load(root)


@pytest.fixture(params=[packaged, pytest.param(installed, marks=pytest.mark.system)])
def redis_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, executable=request.param())
    server.start()
    yield server
    server.remove()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("HETLM_"):
            monkeypatch.delenv(name)
