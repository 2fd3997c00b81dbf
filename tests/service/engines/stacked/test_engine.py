"""Real vLLM, three predictors in one process: the engine contract, and token for token what separate engines say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import numpy as np
import pytest

from browsing.engine import Engine, EngineDown, EngineError, GenerateRequest, Path
from browsing.engines.local import LocalEngine
from browsing.vocabulary import BOS, EOS
from service.engines.machine import Tuning
from service.engines.stacked.engine import StackedVllmEngine
from tests import tiny
from tests.browsing.engine_contract import PROMPTS, ContextContract, EngineContract, Subject, forward_model
from tests.service.engines.conftest import Children

CLUSTERS = 3


@dataclass(frozen=True, slots=True)
class Stacked:
    engine: StackedVllmEngine
    runner: asyncio.Runner
    directories: list[FilePath]

    def ask(self, engine: Engine, requests: Sequence[GenerateRequest]) -> list[list[Path]]:
        async def gather() -> list[list[Path]]:
            return list(await asyncio.gather(*(engine.generate(request) for request in requests)))

        return self.runner.run(gather())


@pytest.fixture(scope="module")
def stacked(children_for_all: Children, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacked]:
    """In the same event loop, and with the same first two predictors, as the separate engines of these tests."""
    directories = tiny.predictors(tmp_path_factory.mktemp("stacked"), tiny.vocabulary(), CLUSTERS)
    tuning = Tuning.of_this_machine(gpu=False, kv_cache_bytes=2**27)
    engine = StackedVllmEngine(
        directories, 10, tuning=tuning, context=64, start_timeout=400.0, probe_timeout=300.0, probe_every=5.0
    )
    children_for_all.runner.run(engine.start())
    yield Stacked(engine, children_for_all.runner, directories)
    children_for_all.runner.run(engine.stop())


def mixed(greedy: bool) -> list[GenerateRequest]:
    """Every cluster, every prompt, with and without forbidden ids, next to each other."""
    return [
        GenerateRequest(k, prompt, 1 if greedy else 12, 8, (9, EOS, 3, 5, 4), forbidden, greedy, seed=17 + i)
        for i, prompt in enumerate(PROMPTS)
        for forbidden in ((), (4, 5), (EOS,))
        for k in range(CLUSTERS)
    ]


def equal(left: Sequence[Sequence[Path]], right: Sequence[Sequence[Path]]) -> None:
    for ours, theirs in zip(left, right, strict=True):
        assert [path.tokens for path in ours] == [path.tokens for path in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert a.finished == b.finished
            np.testing.assert_allclose(a.watched, b.watched, rtol=0, atol=1e-3)


def test_greedy_paths_are_the_embedded_engines(stacked: Stacked) -> None:
    local = LocalEngine(stacked.directories, threads=1)
    stacked.runner.run(local.start())
    try:
        equal(stacked.ask(stacked.engine, mixed(greedy=True)), stacked.ask(local, mixed(greedy=True)))
    finally:
        stacked.runner.run(local.stop())


def test_sampled_paths_are_the_separate_engines(stacked: Stacked, children: Children) -> None:
    """With equal seeds: the sampler sees the same rows, and draws the same numbers."""
    requests = [request for request in mixed(greedy=False) if request.cluster < len(children.directories)]
    paths = stacked.ask(stacked.engine, requests)
    equal(paths, stacked.ask(children.engine, requests))
    assert len({path.tokens for own in paths for path in own}) > 100


def test_a_crowd_of_all_clusters_is_answered_as_each_alone(stacked: Stacked) -> None:
    """More prompts and paths than vLLM computes in one step; and the same history in every cluster."""
    requests = [
        GenerateRequest(k % CLUSTERS, (*(4 + i % 6 for i in range(54)), EOS, BOS), 12, 6, (EOS, 5), seed=k)
        for k in range(48)
    ]
    together = stacked.ask(stacked.engine, requests)
    for request, paths in list(zip(requests, together, strict=True))[::7]:
        equal([paths], stacked.ask(stacked.engine, [request]))


def test_a_long_queue_is_no_illness(stacked: Stacked) -> None:
    """A probe passes it: in its place it would be answered after most of these paths."""
    endless = [GenerateRequest(k, (BOS,), 1_000, 62, forbidden=(EOS,), deadline=500.0) for k in range(CLUSTERS)]

    async def ask() -> dict[int, bool]:
        waiting = [asyncio.ensure_future(stacked.engine.generate(request)) for request in endless]
        await asyncio.sleep(3.0)
        healthy = await stacked.engine.healthy()
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        return healthy

    assert stacked.runner.run(ask()) == dict.fromkeys(range(CLUSTERS), True)


class TestStackedVllm(EngineContract, ContextContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, stacked: Stacked) -> Subject:
        return Subject(stacked.engine, stacked.runner, [forward_model(d) for d in stacked.directories], 10)

    def test_stop_is_idempotent(self, subject: Subject) -> None:
        engine = subject.engine
        assert isinstance(engine, StackedVllmEngine)
        assert "clusters-0-2" in engine.log().name
        super().test_stop_is_idempotent(subject)
        assert (engine.url, engine.group) == (None, None)
        with pytest.raises(EngineDown, match="not running"):
            subject.ask(GenerateRequest(0, (BOS,), 1, 1))
        with pytest.raises(EngineError, match="not running"):
            engine.log()


def test_weights_that_go_missing_are_an_engine_error(tmp_path: FilePath) -> None:
    directories = tiny.predictors(tmp_path, tiny.vocabulary(), 2)
    engine = StackedVllmEngine(directories, 10, gpu=False)
    (directories[1] / "model.safetensors").unlink()
    with pytest.raises(EngineError, match=r"cannot be stacked.*cluster-1"):
        asyncio.run(engine.start())
    assert asyncio.run(engine.healthy()) == {0: False, 1: False}


def test_metadata_of_an_older_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: FilePath) -> None:
    directories = tiny.predictors(tmp_path, tiny.vocabulary(), 2)

    class Nothing:
        names = frozenset[str]()

    monkeypatch.setattr("service.engines.stacked.engine.entry_points", lambda group: Nothing())
    with pytest.raises(EngineError, match=r"hetlm-stacked.*install it again"):
        StackedVllmEngine(directories, 10)
