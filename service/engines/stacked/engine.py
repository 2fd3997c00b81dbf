"""The engine port over one vLLM server that the service starts itself, for the predictors of all clusters."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from browsing.engine import EngineDown, EngineError, GenerateRequest
from browsing.engine import Path as SampledPath
from service.engines.machine import Tuning, command
from service.engines.stacked.plugin import GROUP, PLUGIN
from service.engines.stacked.stacking import check, stack
from service.engines.vllm import VllmEngine
from service.resilience.replicas import Tell, nobody


def _program(predictors: Path, name: str, port: int, tuning: Tuning) -> list[str]:
    """All clusters wait in one queue. A probe must be able to pass it, or a long one would look like a dead engine."""
    return [*command(predictors, name, port, tuning), "--scheduling-policy", "priority"]


class StackedVllmEngine:
    """`browsing.engine.Engine` over a single `VllmEngine` child: `predictors[k]` is cluster k's directory.

    The stacked weights are written to a temporary directory at the start, as large as the predictors together, and go
    with the engine. When the child ends, no cluster is answered until it is back: see `VllmEngine` for how, for the
    parameters, and for `Tell`, which hears of each cluster.
    """

    def __init__(
        self,
        predictors: Sequence[Path],
        vocabulary_size: int,
        *,
        gpu: bool | None = None,
        tuning: Tuning | None = None,
        context: int = 0,
        logs: Path | None = None,
        start_timeout: float = 300.0,
        probe_timeout: float = 5.0,
        probe_every: float = 15.0,
    ) -> None:
        """Raises `ValueError` for predictors that cannot be stacked, `OSError`, and `EngineError` if vLLM is not
        installed, or would not find its plug-in."""
        check(predictors)
        if PLUGIN not in entry_points(group=GROUP).names:
            raise EngineError(
                f"vLLM would not find the plug-in {PLUGIN} ({GROUP}): the metadata of an older hetlm is installed; "
                "install it again (pip install --no-deps -e . in a checkout, after rm -r hetlm.egg-info)"
            )
        self._predictors = list(predictors)
        self._vocabulary_size = vocabulary_size
        self._tuning = tuning or Tuning.of_this_machine(gpu)
        self._context = context
        self._logs = logs
        self._start_timeout = start_timeout
        self._probe_timeout = probe_timeout
        self._probe_every = probe_every
        self._tell: Tell = nobody
        self._scratch: Path | None = None
        self._engine: VllmEngine | None = None

    @property
    def group(self) -> int | None:
        """The process group of the vLLM server."""
        return self._engine.groups[0] if self._engine is not None else None

    @property
    def url(self) -> str | None:
        """Where it answers; None while it is down."""
        return self._engine.urls[0] if self._engine is not None else None

    def log(self) -> Path:
        """The log of the vLLM server. Raises `EngineError` if the engine is not running."""
        if self._engine is None:
            raise EngineError("the engine is not running")
        return self._engine.log(0)

    def on_return(self, tell: Tell) -> None:
        self._tell = tell
        if self._engine is not None:
            self._engine.on_return(tell)

    async def start(self) -> None:
        """Raises `EngineError`. Nothing happens if it is running."""
        if self._engine is not None:
            return
        self._scratch = Path(tempfile.mkdtemp(prefix="hetlm-stacked-"))
        try:
            directory = await asyncio.to_thread(stack, self._predictors, self._scratch / "predictors")
            engine = VllmEngine(
                [directory],
                self._vocabulary_size,
                stacked=len(self._predictors),
                tuning=self._tuning,
                context=self._context,
                logs=self._logs,
                start_timeout=self._start_timeout,
                probe_timeout=self._probe_timeout,
                probe_every=self._probe_every,
                program=_program,
                plugin=PLUGIN,
                probes_first=True,
            )
            engine.on_return(self._tell)
            await engine.start()
        except BaseException as error:
            self._remove()
            if isinstance(error, (OSError, ValueError)):
                raise EngineError(f"the predictors cannot be stacked: {error}") from error
            raise
        self._engine = engine

    async def generate(self, request: GenerateRequest) -> list[SampledPath]:
        if self._engine is None:
            raise EngineDown("the engine is not running")
        return await self._engine.generate(request)

    async def healthy(self) -> dict[int, bool]:
        if self._engine is None:
            return dict.fromkeys(range(len(self._predictors)), False)
        return await self._engine.healthy()

    async def stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()
        self._remove()

    def _remove(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
