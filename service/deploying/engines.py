"""One vLLM server per cluster of a bundle: how it is called, and what memory it is given."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from browsing.bundle import BundleError, predictor_directory, verify
from service.engines.machine import Tuning, arguments, computing

PORT = 8000
"""Of every engine, in a container of its own."""
BUNDLE = "/bundle"
"""Where containers have the bundle."""
CACHE_LIMIT = 4 * 2**30
"""Bytes. A larger cache would hold more paths at once than such an engine computes in any useful time."""

_MIB = 2**20
_BYTES = {"float32": 4, "bfloat16": 2}


class _Config(BaseModel):
    """What the cache's size depends on, in a predictor's `config.json`."""

    hidden_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int | None = None
    head_dim: int | None = None

    @property
    def values_per_token(self) -> int:
        """Keys and values of one token, over all layers."""
        heads = self.num_key_value_heads or self.num_attention_heads
        width = self.head_dim or self.hidden_size // self.num_attention_heads
        return 2 * self.num_hidden_layers * heads * width


@dataclass(frozen=True, slots=True)
class EngineServer:
    """The vLLM server of one cluster. `memory`: bytes of the machine's memory that it may have (on a GPU, weights and
    cache are there instead). `gpu`: the number of its GPU."""

    cluster: int
    tuning: Tuning
    context: int
    threads: int
    memory: int
    gpu: int = 0

    @property
    def model(self) -> str:
        """The name it serves under, which its metrics carry."""
        return f"cluster-{self.cluster}"

    @property
    def arguments(self) -> list[str]:
        predictor = predictor_directory(Path(BUNDLE), self.cluster)
        return [
            *arguments(str(predictor), self.model, "0.0.0.0", PORT, self.tuning),
            *("--max-model-len", str(self.context)),
        ]

    @property
    def environment(self) -> dict[str, str]:
        return computing(self.tuning, self.threads)


@dataclass(frozen=True, slots=True)
class Plan:
    """A bundle and the engines that serve it."""

    bundle: Path
    version: str
    engines: tuple[EngineServer, ...]

    @property
    def gpu(self) -> bool:
        return self.engines[0].tuning.gpu


def plan(bundle: Path, *, gpus: int, threads: int, paths: int) -> Plan:
    """One engine per cluster. `gpus`: how many they share, in turn; 0 for CPUs. `threads`: of each on a CPU. `paths`:
    what each computes at once, at most. Raises `BundleError`."""
    manifest = verify(bundle)
    gpu = gpus > 0
    context = manifest.limits.context
    engines = []
    for cluster in manifest.clusters:
        directory = predictor_directory(bundle, cluster.id)
        try:
            config = _Config.model_validate_json((directory / "config.json").read_text())
        except ValidationError as error:
            raise BundleError(f"{directory / 'config.json'}: {error}") from error
        dtype = "bfloat16" if gpu else "float32"
        tuning = Tuning(gpu=gpu, dtype=dtype, eager=not gpu, max_sequences=paths)
        cache = cache_bytes(config.values_per_token * _BYTES[dtype], context, paths, block=tuning.block)
        tuning = replace(tuning, kv_cache_bytes=cache)
        weights = (directory / "model.safetensors").stat().st_size
        memory = _memory(gpu, weights, cache)
        engines.append(EngineServer(cluster.id, tuning, context, threads, memory, cluster.id % gpus if gpu else 0))
    return Plan(bundle.resolve(), manifest.version, tuple(engines))


def cache_bytes(per_token: int, context: int, paths: int, *, block: int, limit: int = CACHE_LIMIT) -> int:
    """The cache that holds `paths` paths of `context` tokens, in whole MiB: at most `limit`, and at least one path.

    `per_token`: bytes; `block`: tokens that are given at once. One block more is vLLM's own.
    """
    whole = per_token * block
    one = math.ceil(context / block)
    wanted = min(whole * (one * paths + 1), max(limit, whole * (one + 1)))
    return math.ceil(wanted / _MIB) * _MIB


def _memory(gpu: bool, weights: int, cache: int) -> int:
    """vLLM alone takes about 1.5 GiB on a CPU, and about 5 GiB beside a GPU; weights are in memory twice while they are
    loaded. In quarters of a GiB."""
    own = 6 * 2**30 if gpu else 2 * 2**30 + cache
    quarter = 256 * _MIB
    return math.ceil((own + 2 * weights) / quarter) * quarter
