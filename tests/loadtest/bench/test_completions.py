"""vLLM's interface, against a small server that speaks it, and how its servers are tuned."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from browsing.bundle import Bundle
from browsing.engine import GenerateRequest
from browsing.engine import Path as Sampled
from loadtest.bench.asking import questions
from loadtest.bench.direct import DirectVllm
from loadtest.bench.errors import BenchError
from loadtest.bench.peers import vllm
from loadtest.bench.peers.completions import MODEL, Completions
from loadtest.bench.peers.vllm import Tuned, tuned
from loadtest.bench.subject import Played
from loadtest.bench.workload import Workload
from loadtest.soak.standin import FakeVllm, sample, table

TUNED = Tuned(cores=(0, 1), eager=True, preloaded=("/lib/one.so",), missing=())


def test_paths_come_back_as_they_were_drawn() -> None:
    async def ask(*requests: GenerateRequest) -> list[list[Sampled]]:
        server = FakeVllm(10, 3, name=MODEL)
        await server.start()
        completions = Completions(server.url)
        try:
            return [await completions.generate(request) for request in requests]
        finally:
            await completions.rest()
            await server.stop()

    free = GenerateRequest(0, (1, 5, 2, 1), samples=6, max_steps=8, watched=(4, 5, 7), seed=11)
    without = GenerateRequest(0, (1, 5, 2, 1), samples=6, max_steps=8, watched=(4,), forbidden=(4,), seed=12)
    greedy = GenerateRequest(0, (1, 5, 2, 1), samples=1, max_steps=8, greedy=True)
    drawn, others, (best,) = asyncio.run(ask(free, without, greedy))
    own = table(10, 3)
    for request, paths in ((free, drawn), (without, others)):
        assert len(paths) == 6
        for path in paths:
            before = (1, *path.tokens[:-1])
            expected = own[np.ix_(before, request.watched)]
            assert path.watched == pytest.approx(expected, abs=1e-9)
    assert not any(4 in path.tokens for path in others)
    assert best.tokens == sample(greedy, own)[0].tokens
    assert best.watched.shape == (len(best.tokens), 0)


class StandingIn:
    """A `FakeVllm` in this process."""

    def __init__(self, size: int, seed: int) -> None:
        self._fake = FakeVllm(size, seed, name=MODEL)
        self.pid = os.getpid()
        self.completions = Completions("")

    @property
    def asked(self) -> int:
        return self._fake.asked

    async def start(self) -> None:
        await self._fake.start()
        self.completions = Completions(self._fake.url)

    async def stop(self) -> None:
        await self.completions.rest()
        await self._fake.stop()


def test_a_stretch_is_played_on_the_clusters_servers(bundle: Bundle, work: Workload) -> None:
    servers = [StandingIn(len(bundle.vocabulary), seed) for seed in range(2)]
    subject = DirectVllm("vllm", bundle, work, servers)

    async def play() -> Played:
        await subject.start()
        try:
            return await subject.play(range(len(work.visitors)), 5)
        finally:
            await subject.stop()

    played = asyncio.run(play())
    assert len(played.latencies) == len(work.visitors)
    assert played.generator > 0
    assert played.memory > 0
    routed = [question.cluster for question in questions(bundle, work)]
    asked = [server.asked for server in servers]
    assert asked == [4 * routed.count(0), 4 * routed.count(1)], "free, without a cart, without a purchase, greedy"


def test_another_models_server_is_an_error() -> None:
    async def ask() -> None:
        server = FakeVllm(10, 3, name="another")
        await server.start()
        completions = Completions(server.url)
        try:
            await completions.generate(GenerateRequest(0, (1,)))
        finally:
            await completions.rest()
            await server.stop()

    with pytest.raises(BenchError, match="status 404"):
        asyncio.run(ask())


def test_cores_are_divided_while_there_are_enough() -> None:
    assert [tuned(2, place, (0, 1, 2, 3, 5)).cores for place in range(2)] == [(0, 1), (2, 3)]
    assert tuned(3, 2, (0, 1)).cores == (0, 1)


def test_what_is_found_is_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = TUNED.environment()
    assert found["LD_PRELOAD"] == "/lib/one.so"
    assert found["VLLM_CPU_OMP_THREADS_BIND"] == "0,1"
    assert "OMP_NUM_THREADS" not in found, "the threads are vLLM's to divide"
    assert int(found["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > 600, "connections are kept while others are measured"
    command = TUNED.command(Path("/predictor"), 80)
    assert {"--enforce-eager", "--skip-tokenizer-init"} <= set(command)
    assert command[command.index("--block-size") + 1] == "32"
    documented = tuned(1, 0, (0, 1), documented=True).command(Path("/predictor"), 80)
    assert not {"--block-size", "--skip-tokenizer-init"} & set(documented)
    assert "--enforce-eager" not in Tuned((0,), False, (), ()).command(Path("/predictor"), 80)


def test_without_vllm_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match="vLLM is not installed"):
        tuned(1, 0, (0,))
