"""One engine per cluster: its cache, its memory, its command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from browsing.bundle import BundleError, Manifest
from service.deploying.engines import CACHE_LIMIT, cache_bytes, plan
from service.engines.machine import QUIET
from tests.service.deploying.conftest import Bundles

MIB = 2**20


@pytest.mark.parametrize(
    ("per_token", "context", "paths", "block", "expected"),
    [
        (1024, 64, 256, 32, 17 * MIB),  # 256 paths of two blocks, and vLLM's own: 513 * 32 KiB
        (4096, 256, 256, 32, 257 * MIB),  # 2,049 blocks of 128 KiB
        (98_304, 1024, 256, 16, CACHE_LIMIT),  # 1.3 billion parameters: the limit
        (2**20, 8192, 4, 16, 8208 * MIB),  # one path is larger than the limit: it must fit
    ],
)
def test_the_cache_holds_the_paths(per_token: int, context: int, paths: int, block: int, expected: int) -> None:
    assert cache_bytes(per_token, context, paths, block=block) == expected


def test_an_engine_per_cluster_on_cpus(bundles: Bundles) -> None:
    made = plan(bundles(3), gpus=0, threads=2, paths=256)
    assert [engine.cluster for engine in made.engines] == [0, 1, 2]
    assert not made.gpu
    for engine in made.engines:
        # Two layers, two heads of 32 values, in four bytes, for keys and for values: 1 KiB per token.
        assert engine.tuning.kv_cache_bytes == 17 * MIB
        assert engine.memory % (256 * MIB) == 0
        assert 2 * 2**30 + engine.tuning.kv_cache_bytes < engine.memory <= 2.5 * 2**30
        flags = engine.arguments
        assert flags[flags.index("--dtype") + 1] == "float32"
        assert flags[flags.index("--kv-cache-memory-bytes") + 1] == str(17 * MIB)
        assert flags[flags.index("--model") + 1] == f"/bundle/predictors/cluster-{engine.cluster}"
        assert flags[flags.index("--max-model-len") + 1] == "64"
        assert "--enforce-eager" in flags
        assert "--disable-log-stats" not in flags, "Prometheus reads them"
        assert engine.environment["OMP_NUM_THREADS"] == "2"


def test_engines_take_gpus_in_turn(bundles: Bundles) -> None:
    made = plan(bundles(3), gpus=2, threads=2, paths=64)
    assert made.gpu
    assert [engine.gpu for engine in made.engines] == [0, 1, 0]
    for engine in made.engines:
        flags = engine.arguments
        assert flags[flags.index("--dtype") + 1] == "bfloat16"
        assert flags[flags.index("--max-num-seqs") + 1] == "64"
        # 4 blocks of 16 tokens for each of 64 paths and one more, at half a KiB per token.
        assert flags[flags.index("--kv-cache-memory-bytes") + 1] == str(3 * MIB)
        assert engine.environment == {}


def test_vllm_knows_every_flag(bundles: Bundles) -> None:
    """Its own parser, asked in a process of its own."""
    script = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
for arguments in json.loads(sys.argv[1]):
    read = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    print(json.dumps([read.kv_cache_memory_bytes, read.dtype, read.max_model_len, read.host, read.port]))
"""
    engines = [plan(bundles(1), gpus=gpus, threads=2, paths=256).engines[0] for gpus in (0, 1)]
    command = [sys.executable, "-c", script, json.dumps([engine.arguments for engine in engines])]
    environment = {**os.environ, **QUIET}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    read = [json.loads(line) for line in printed.splitlines() if line.startswith("[")]
    assert read == [[e.tuning.kv_cache_bytes, e.tuning.dtype, 64, "0.0.0.0", 8000] for e in engines]


def test_a_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no manifest"):
        plan(tmp_path, gpus=0, threads=1, paths=1)


def test_a_config_that_says_too_little_is_named(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bundle"
    shutil.copytree(bundles(1), root)
    config = root / "predictors" / "cluster-0" / "config.json"
    document = json.loads(config.read_text())
    del document["num_hidden_layers"]
    config.write_text(json.dumps(document))
    manifest = Manifest.model_validate_json((root / "manifest.json").read_text())
    monkeypatch.setattr("service.deploying.engines.verify", lambda _: manifest)
    with pytest.raises(BundleError, match="num_hidden_layers"):
        plan(root, gpus=0, threads=1, paths=1)
