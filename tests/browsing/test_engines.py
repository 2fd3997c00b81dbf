"""The engine contract over the fake and the embedded engine, and what is the embedded engine's own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from browsing.engine import MAX_WATCHED, EngineError, EngineTimeout, GenerateRequest, Path
from browsing.engines import local, worker
from browsing.engines.job import Core
from browsing.engines.local import LocalEngine
from browsing.engines.rollout import draw
from browsing.engines.sampling import allowed, pick
from browsing.engines.table import TableEngine
from browsing.vocabulary import BOS, EOS, NEVER
from tests import tiny
from tests.browsing.engine_contract import (
    PROMPTS,
    ContextContract,
    EngineContract,
    Subject,
    forward_model,
    table_model,
)


class TestTable(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls) -> Iterator[Subject]:
        generator = np.random.default_rng(0)
        tables = [generator.dirichlet(np.ones(10), 10) for _ in range(2)]
        with asyncio.Runner() as runner:
            engine = TableEngine(tables)
            runner.run(engine.start())
            yield Subject(engine, runner, [table_model(table) for table in tables], 10)


class TestLocal(EngineContract, ContextContract):
    """Llamas and Qwens advance together; OPTs are run batch by batch."""

    @pytest.fixture(scope="class", params=tiny.FAMILIES)
    @classmethod
    def subject(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
        root = tmp_path_factory.mktemp("local")
        directories = tiny.predictors(root, tiny.vocabulary(), 2, family=request.param, seed=4)
        with asyncio.Runner() as runner:
            engine = LocalEngine(directories, threads=1)
            runner.run(engine.start())
            yield Subject(engine, runner, [forward_model(d) for d in directories], 10)
            runner.run(engine.stop())


@pytest.fixture(scope="module", params=("llama", "opt"))
def family(request: pytest.FixtureRequest) -> tiny.Family:
    """One for each of the two ways in which the embedded engine computes."""
    found: tiny.Family = request.param
    return found


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory, family: tiny.Family) -> list[FilePath]:
    return tiny.predictors(tmp_path_factory.mktemp("predictors"), tiny.vocabulary(), 2, family=family)


def _tokens(paths: list[Path]) -> list[tuple[int, ...]]:
    return [path.tokens for path in paths]


def test_small_batches_give_the_same_paths(directories: list[FilePath]) -> None:
    """Requests larger than a batch, and requests of two clusters in turn, are cut up and put together again."""
    requests = [GenerateRequest(i % 2, PROMPTS[i % 4], 11 + i, 3 + i, (EOS, 4, 5), (6,), seed=i) for i in range(6)]
    large = LocalEngine(directories).generate_batch(requests)
    small = LocalEngine(directories, max_rows=4).generate_batch(requests)
    for request, a, b in zip(requests, large, small, strict=True):
        assert len(a) == request.samples
        assert _tokens(a) == _tokens(b)
        for left, right in zip(a, b, strict=True):
            np.testing.assert_allclose(left.watched, right.watched, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_async_equals_the_synchronous_core(directories: list[FilePath], threads: int) -> None:
    requests = [GenerateRequest(i % 2, PROMPTS[i % 4], 5, 6, (EOS,), seed=i) for i in range(8)]

    async def ask() -> list[list[Path]]:
        engine = LocalEngine(directories, threads=threads, max_rows=16)
        await engine.start()
        await engine.start()  # already running: nothing happens
        try:
            return list(await asyncio.gather(*(engine.generate(request) for request in requests)))
        finally:
            await engine.stop()

    expected = LocalEngine(directories).generate_batch(requests)
    assert [_tokens(paths) for paths in asyncio.run(ask())] == [_tokens(paths) for paths in expected]


def test_how_long_requests_waited_is_told_and_no_probe_is(directories: list[FilePath]) -> None:
    told: list[tuple[int, float]] = []

    async def scenario() -> None:
        engine = LocalEngine(directories, max_rows=4)
        engine.on_wait(lambda cluster, seconds: told.append((cluster, seconds)))
        await engine.start()
        try:
            assert all((await engine.healthy()).values())
            assert told == []
            requests = [GenerateRequest(cluster, (BOS,), 8, 4, seed=cluster) for cluster in (0, 1)]
            await asyncio.gather(*(engine.generate(request) for request in requests))
        finally:
            await engine.stop()

    asyncio.run(scenario())
    assert sorted(cluster for cluster, _ in told) == [0, 1]
    assert all(0 < seconds < 30 for _, seconds in told)


def test_nothing_allowed(directories: list[FilePath]) -> None:
    with pytest.raises(ValueError, match="every token is forbidden"):
        LocalEngine(directories).generate_batch([GenerateRequest(0, (BOS,), 1, 1, forbidden=tuple(range(2, 10)))])


def test_draw_is_walk() -> None:
    """The vectorised step against `sampling.allowed` and `sampling.pick`, row by row."""
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(300, 20)) * 3
    uniforms = generator.random(300)
    uniforms[:3] = (0.0, 1 - 2**-53, 0.5)
    greedy = generator.random(300) < 0.2
    forbidden = np.array([[*NEVER, *generator.choice(np.arange(2, 20), 3, replace=False)] for _ in range(300)])
    drawn, own, sound = draw(*map(torch.from_numpy, (logits, forbidden, greedy, uniforms)))
    assert sound.all()
    for row in range(300):
        weights = np.exp(logits[row])
        expected = allowed(weights / weights.sum())
        np.testing.assert_allclose(own[row].numpy(), expected, atol=1e-12)
        expected[forbidden[row]] = 0.0
        assert drawn[row] == (expected.argmax() if greedy[row] else pick(expected, uniforms[row]))


def test_draw_never_falls_off_the_end() -> None:
    """u = 1 does not occur, but u * total may round up to total: the last id that can be drawn is taken."""
    logits = torch.zeros(2, 8, dtype=torch.float64)
    forbidden = torch.tensor([[0, 1, 6, 7], [0, 1, 0, 0]])
    drawn, _, _ = draw(logits, forbidden, torch.tensor([False, False]), torch.ones(2, dtype=torch.float64))
    assert drawn.tolist() == [5, 7]


@pytest.mark.parametrize("bad", [0, 1])
def test_a_broken_model_is_an_error_of_its_cluster(tmp_path: FilePath, family: tiny.Family, bad: int) -> None:
    vocabulary = tiny.vocabulary()
    directories = tiny.predictors(tmp_path, vocabulary, 2, family=family)
    good = [GenerateRequest(1 - bad, prompt, 4, 6, watched=(EOS, 5), seed=3) for prompt in PROMPTS]
    expected = LocalEngine(directories).generate_batch(good)
    weights = load_file(directories[bad] / "model.safetensors")
    weights[next(name for name in weights if "embed_tokens" in name)][4:] = torch.nan
    save_file(weights, directories[bad] / "model.safetensors", {"format": "pt"})
    engine = LocalEngine(directories)
    broken = GenerateRequest(bad, PROMPTS[1], 4, 3)

    async def together() -> list[list[Path] | BaseException]:
        await engine.start()
        try:
            return await asyncio.gather(*map(engine.generate, (broken, *good, broken)), return_exceptions=True)
        finally:
            await engine.stop()

    first, *answers, last = asyncio.run(together())
    assert [str(error) for error in (first, last)] == ["the predictor's probabilities are not numbers"] * 2
    for before, paths in zip(expected, answers, strict=True):
        assert isinstance(paths, list)
        assert _tokens(paths) == _tokens(before)
        assert all(np.isfinite(path.watched).all() for path in paths)


def test_a_deadline_passes_between_steps(directories: list[FilePath]) -> None:
    """A long request is dropped on the way; the short ones beside it in the same batch are answered."""
    short = GenerateRequest(0, PROMPTS[1], 2, 40, (EOS,), (EOS,), seed=1)
    long = replace(short, samples=400, deadline=0.02)
    with pytest.raises(EngineTimeout):
        LocalEngine(directories).generate_batch([long])

    async def ask() -> list[list[Path] | BaseException]:
        engine = LocalEngine(directories)
        await engine.start()
        calls = [engine.generate(request) for request in (short, long, replace(short, seed=2))]
        answers = list(await asyncio.gather(*calls, return_exceptions=True))
        await engine.stop()
        return answers

    first, late, second = asyncio.run(ask())
    assert isinstance(late, EngineTimeout)
    assert isinstance(first, list)
    assert isinstance(second, list)
    expected = LocalEngine(directories).generate_batch([short, replace(short, seed=2)])
    assert [_tokens(first), _tokens(second)] == [_tokens(paths) for paths in expected]


def test_cancelled_requests_are_dropped(directories: list[FilePath]) -> None:
    async def ask() -> int:
        engine = LocalEngine(directories)
        await engine.start()
        endless = GenerateRequest(0, PROMPTS[1], 100_000, 40, forbidden=(EOS,))
        tasks = [asyncio.ensure_future(engine.generate(replace(endless, seed=seed))) for seed in range(4)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        # Behind 400,000 paths this would take minutes.
        paths = await engine.generate(GenerateRequest(0, PROMPTS[1], 3, 2, deadline=20.0))
        await engine.stop()
        return len(paths)

    assert asyncio.run(ask()) == 3


def test_stop_fails_what_is_running_and_waiting(directories: list[FilePath]) -> None:
    async def ask() -> list[list[Path] | BaseException]:
        engine = LocalEngine(directories)
        with pytest.raises(EngineError, match="not running"):
            await engine.generate(GenerateRequest(0, (BOS,), 1, 1))
        assert await engine.healthy() == {0: False, 1: False}
        await engine.start()
        endless = GenerateRequest(0, PROMPTS[1], 20_000, 40, forbidden=(EOS,))
        running = [asyncio.ensure_future(engine.generate(replace(endless, cluster=k))) for k in (0, 1)]
        await asyncio.sleep(0.05)
        behind = asyncio.ensure_future(engine.generate(endless))
        await asyncio.sleep(0)
        await engine.stop()
        answers = list(await asyncio.gather(*running, behind, return_exceptions=True))
        await engine.start()  # and it may start again
        assert len(await engine.generate(GenerateRequest(0, (BOS,), 2, 1))) == 2
        await engine.stop()
        return answers

    answers = asyncio.run(ask())
    assert all(isinstance(answer, EngineError) and "stopped" in str(answer) for answer in answers)


@pytest.mark.parametrize("progress", [True, False])
def test_an_engine_that_is_late_is_well_while_it_works(
    directories: list[FilePath], monkeypatch: pytest.MonkeyPatch, progress: bool
) -> None:
    """A health check waits behind what came before; only one behind which nothing moves finds the engine dead."""
    monkeypatch.setattr(local, "HEALTH_SECONDS", 0.3)
    gate = threading.Event()

    def advance(core: Core) -> None:
        if not progress:
            gate.wait()
        time.sleep(0.02)  # and no job ever ends

    async def check() -> dict[int, bool]:
        engine = LocalEngine(directories)
        await engine.start()
        monkeypatch.setattr(worker, "advance", advance)
        try:
            return await engine.healthy()
        finally:
            gate.set()
            await engine.stop()

    assert asyncio.run(check()) == dict.fromkeys(range(len(directories)), progress)


def test_an_engine_of_which_one_worker_stands_still_is_not_well(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second question would wait for ever."""
    monkeypatch.setattr(local, "HEALTH_SECONDS", 0.5)
    directories = tiny.predictors(tmp_path, tiny.vocabulary(), 2)
    gate, stuck = threading.Event(), threading.Event()
    advance = worker.advance

    def stopped_once(core: Core) -> None:
        if not stuck.is_set():
            stuck.set()
            gate.wait(60)
        advance(core)

    async def scenario() -> None:
        engine = LocalEngine(directories, threads=2)
        await engine.start()
        monkeypatch.setattr(worker, "advance", stopped_once)
        try:
            request = GenerateRequest(0, (BOS,), 3, 2, deadline=0.2)
            with pytest.raises(EngineTimeout):
                await engine.generate(request)
            assert stuck.is_set()
            assert await engine.healthy() == {0: False, 1: False}
            gate.set()
            assert len(await engine.generate(replace(request, deadline=60.0))) == 3
            assert await engine.healthy() == {0: True, 1: True}
        finally:
            gate.set()
            await engine.stop()

    asyncio.run(scenario())


def test_the_most_watched_ids(tmp_path: FilePath) -> None:
    words = tiny.vocabulary([f"/p{i}" for i in range(200)])
    (directory,) = tiny.predictors(tmp_path, words, 1)
    request = GenerateRequest(0, (BOS, 9, EOS, BOS), 3, 4, watched=tuple(range(50, 50 + MAX_WATCHED)), seed=1)
    (paths,) = LocalEngine([directory]).generate_batch([request])
    model = forward_model(directory)
    for path in paths:
        expected = np.array([allowed(row)[50 : 50 + MAX_WATCHED] for row in model(request.prompt, path.tokens)])
        np.testing.assert_allclose(path.watched, expected, rtol=0, atol=1e-3)


def test_start_names_what_cannot_be_loaded(directories: list[FilePath], tmp_path: FilePath) -> None:
    with pytest.raises(EngineError, match="absent"):
        asyncio.run(LocalEngine([directories[0], tmp_path / "absent"]).start())
    with pytest.raises(ValueError, match="at least 1"):
        LocalEngine([])


def test_start_refuses_a_model_that_gives_no_token(tmp_path: FilePath) -> None:
    directories = tiny.predictors(tmp_path, tiny.vocabulary(), 2)
    file = directories[1] / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"] = torch.full_like(weights["lm_head.weight"], torch.nan)
    save_file(weights, file, metadata={"format": "pt"})
    engine = LocalEngine(directories)
    with pytest.raises(EngineError, match="cluster-1 is loaded but gives no token"):
        asyncio.run(engine.start())
