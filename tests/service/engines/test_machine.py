"""What vLLM's processes are given."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from service.engines import machine
from service.engines.machine import Tuning, command, divide, environment, physical_cores

CPU = Tuning(gpu=False, dtype="float32", eager=True, kv_cache_bytes=1000)
GPU = Tuning(gpu=True, dtype="bfloat16", eager=False)


def test_a_cpu_build_never_takes_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_has_gpu", lambda: True)
    assert Tuning.of_this_machine() == Tuning(gpu=False, dtype="float32", eager=True)
    monkeypatch.setattr(machine, "_built_for_cpu", lambda: False)
    assert Tuning.of_this_machine() == GPU
    assert Tuning.of_this_machine(gpu=False, max_sequences=8).max_sequences == 8
    monkeypatch.setattr(machine, "_has_gpu", lambda: False)
    assert not Tuning.of_this_machine().gpu


def test_the_command_is_quiet_and_on_loopback() -> None:
    words = command(Path("/models/a"), "cluster-3", 1234, CPU)
    pairs = dict(pairwise(words))
    assert pairs["--host"] == "127.0.0.1"
    assert pairs["--port"] == "1234"
    assert pairs["--dtype"] == "float32"
    assert pairs["--kv-cache-memory-bytes"] == "1000"
    assert pairs["--logprobs-mode"] == "raw_logprobs"
    assert pairs["--max-log-len"] == "0"
    assert pairs["--block-size"] == "32"
    assert {"--no-enable-log-requests", "--disable-uvicorn-access-log", "--enforce-eager"} <= set(words)
    assert "--trust-remote-code" not in words
    assert "--gpu-memory-utilization" not in words
    on_gpu = command(Path("/models/a"), "cluster-3", 1234, GPU)
    assert "--no-enable-chunked-prefill" in words
    assert not {"--enforce-eager", "--no-enable-chunked-prefill", "--block-size"} & set(on_gpu)
    assert "--gpu-memory-utilization" in on_gpu
    assert "--skip-tokenizer-init" in words
    assert "--skip-tokenizer-init" in on_gpu


def test_the_environment_has_no_secrets_and_no_network() -> None:
    surroundings = {"PATH": "/bin", "HETLM_SECRET": "s", "VLLM_CPU_KVCACHE_SPACE": "40", "OMP_NUM_THREADS": "9"}
    variables = environment(surroundings, "key", Path("/scratch"), None, CPU)
    assert variables["PATH"] == "/bin"
    assert not {"HETLM_SECRET", "VLLM_CPU_KVCACHE_SPACE"} & set(variables)
    assert variables["VLLM_API_KEY"] == "key"
    assert variables["TMPDIR"] == "/scratch"
    assert variables["HF_HUB_OFFLINE"] == variables["VLLM_NO_USAGE_STATS"] == variables["DO_NOT_TRACK"] == "1"
    assert variables["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert variables["OMP_NUM_THREADS"] == variables["TORCHDYNAMO_DISABLE"] == "1"
    bound = environment({}, "key", Path("/scratch"), [4, 5, 6], CPU)
    assert (bound["VLLM_CPU_OMP_THREADS_BIND"], bound["OMP_NUM_THREADS"]) == ("4,5,6", "3")
    assert not {"VLLM_CPU_OMP_THREADS_BIND", "TORCHDYNAMO_DISABLE"} & set(
        environment({}, "key", Path("/scratch"), None, GPU)
    )


def test_cores_are_divided_only_where_there_are_enough() -> None:
    assert divide([0, 2, 4, 6, 8], 2) == [[0, 2], [4, 6]]
    assert divide([0, 1, 2], 2) == [None, None]
    assert divide([0, 1], 6) == [None] * 6


def test_physical_cores_are_ours() -> None:
    cores = physical_cores()
    assert cores
    assert set(cores) <= os.sched_getaffinity(0)
    assert len(cores) == len(set(cores))
