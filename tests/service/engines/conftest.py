"""Real vLLM engines on the CPU: started once for all tests that need them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.engines.machine import Tuning
from service.engines.vllm import VllmEngine
from tests import tiny


@dataclass(frozen=True, slots=True)
class Children:
    """A `VllmEngine` with two children, and the event loop that it lives in."""

    engine: VllmEngine
    runner: asyncio.Runner
    directories: list[Path]

    def urls(self) -> list[str]:
        return [url for url in self.engine.urls if url is not None]


@pytest.fixture(scope="session")
def children_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    directories = tiny.predictors(tmp_path_factory.mktemp("predictors"), tiny.vocabulary(), 2)
    tuning = Tuning.of_this_machine(gpu=False, kv_cache_bytes=2**27)
    engine = VllmEngine(directories, 10, tuning=tuning, context=64, start_timeout=400.0, probe_every=5.0)
    with asyncio.Runner() as runner:
        yield Children(engine, runner, directories)
        runner.run(engine.stop())


@pytest.fixture(scope="class")
def children(children_for_all: Children) -> Children:
    """Started, also after a test that stopped them."""
    children_for_all.runner.run(children_for_all.engine.start())
    return children_for_all
