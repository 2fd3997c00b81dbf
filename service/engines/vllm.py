"""The engine port over vLLM servers that the service starts itself: one per cluster, on loopback, supervised."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx

from browsing.console import progress
from browsing.engine import EngineDown, EngineError, GenerateRequest
from browsing.engine import Path as SampledPath
from service.engines.child import Child
from service.engines.machine import Tuning, command, divide, environment, physical_cores
from service.engines.server import Server, Unreachable, new_client
from service.resilience.backoff import Backoff, Restarts
from service.resilience.replicas import Tell, nobody

logger = logging.getLogger(__name__)

_FAILURES = 3
_SOON = 1.0
"""Seconds after which one that has just given no answer is asked again."""
_LOOK = 0.1
"""Seconds between two looks at one that is starting: as long as nobody listens, a look costs next to nothing."""
_STEADY = 60.0
"""Seconds after which the end of one has nothing to do with that of the one before: starting one takes half of it."""
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class _Served:
    """One directory and the vLLM that serves it. `servers`, one for each of its `clusters`, are empty while it is
    down."""

    def __init__(self, clusters: range, predictor: Path, cores: list[int] | None) -> None:
        self.clusters = clusters
        self.predictor = predictor
        self.cores = cores
        self.child: Child | None = None
        self.servers: tuple[Server, ...] = ()

    @property
    def name(self) -> str:
        first, last = self.clusters[0], self.clusters[-1]
        return f"cluster-{first}" if first == last else f"clusters-{first}-{last}"

    def __str__(self) -> str:
        return self.name.replace("-", " ", 1)


class VllmEngine:
    """`browsing.engine.Engine` over supervised children: `predictors[k]` is cluster k's directory, or where each has
    `stacked` predictors (see `service.engines.stacked`) that of clusters k * stacked up to the next one's first.

    A child that ends, with whatever code, or stops answering is started anew: at once the first time, and with growing
    pauses where the new one ends soon, too, or does not start; until it answers again its cluster's requests raise
    `EngineError` at once. Who asked for it is told then (it is a `service.resilience.replicas.Returning`). None
    outlives this process.

    `tuning`: by default what suits this machine. `context`: the least number of tokens for prompt and path. `logs`:
    where the children's logs are kept; by default they go with the engine. `probe_every`: seconds between real
    one-token questions. `program`: what is run, given a predictor, the name it is served under, and a port.
    `plugin`: the only one of vLLM's that is loaded. `probes_first`: whether `program` schedules by priority (see
    `Server`). `generator`: of the pauses' random part. `pause`: waits for seconds before a new start.
    """

    def __init__(
        self,
        predictors: Sequence[Path],
        vocabulary_size: int,
        *,
        stacked: int = 1,
        gpu: bool | None = None,
        tuning: Tuning | None = None,
        context: int = 0,
        logs: Path | None = None,
        start_timeout: float = 300.0,
        probe_timeout: float = 5.0,
        probe_every: float = 15.0,
        grace: float = 15.0,
        program: Callable[[Path, str, int, Tuning], list[str]] = command,
        plugin: str = "",
        probes_first: bool = False,
        generator: random.Random | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Raises `ValueError` without predictors, `EngineError` if vLLM is not installed."""
        if not predictors:
            raise ValueError("no predictor: each cluster has one")
        self._tuning = tuning or Tuning.of_this_machine(gpu)
        self._vocabulary_size = vocabulary_size
        self._context = context
        self._logs = logs
        self._start_timeout = start_timeout
        self._probe_timeout = probe_timeout
        self._probe_every = probe_every
        self._grace = grace
        self._program = program
        self._plugin = plugin
        self._probes_first = probes_first
        self._generator = generator or random.Random()
        self._pause = pause
        self._tell: Tell = nobody
        self._client: httpx.AsyncClient | None = None
        self._one_at_a_time = asyncio.Lock()
        self._scratch: Path | None = None
        self._supervisors: list[asyncio.Task[None]] = []
        self.api_key = secrets.token_urlsafe(32)
        """What the children want to hear: no other user of this machine can ask them."""
        shares = divide(physical_cores(), len(predictors))
        self._stacked = stacked
        self._served = [
            _Served(range(i * stacked, (i + 1) * stacked), path, shares[i]) for i, path in enumerate(predictors)
        ]

    @property
    def urls(self) -> list[str | None]:
        """Where each vLLM answers; None while it is down."""
        return [served.servers[0].url if served.servers else None for served in self._served]

    @property
    def groups(self) -> list[int | None]:
        """Each vLLM's process group."""
        return [served.child.group if served.child is not None else None for served in self._served]

    def log(self, cluster: int) -> Path:
        """The log of a cluster's vLLM. Raises `EngineError` if the engine is not running."""
        directory = self._logs or self._scratch
        if directory is None:
            raise EngineError("the engine is not running")
        return directory / f"{self._served[cluster // self._stacked].name}.log"

    def on_return(self, tell: Tell) -> None:
        self._tell = tell

    async def start(self) -> None:
        """One after another, for each takes what memory it finds. Raises `EngineError` with the last lines of the log
        of one that cannot start. Nothing happens if it is running."""
        if self._client is not None:
            return
        self._client = new_client()
        self._scratch = Path(tempfile.mkdtemp(prefix="hetlm-vllm-"))
        if self._logs is not None:
            self._logs.mkdir(parents=True, exist_ok=True)
        try:
            with progress("vLLM engines", len(self._served), "engines") as advance:
                for served in self._served:
                    await self._launch(served)
                    advance(1)
        except BaseException:
            await self.stop()
            raise
        self._supervisors = [asyncio.create_task(self._supervise(served)) for served in self._served]

    async def generate(self, request: GenerateRequest) -> list[SampledPath]:
        clusters = len(self._served) * self._stacked
        if not 0 <= request.cluster < clusters:
            raise ValueError(f"no cluster {request.cluster}: there are {clusters}")
        number, block = divmod(request.cluster, self._stacked)
        servers = self._served[number].servers
        if not servers:
            raise EngineDown(f"cluster {request.cluster}: its vLLM is not running")
        return await servers[block].generate(request)

    async def healthy(self) -> dict[int, bool]:
        answers = await asyncio.gather(*map(self._answers, self._served))
        return dict(enumerate(up for own in answers for up in own))

    async def _answers(self, served: _Served) -> list[bool]:
        if not served.servers:
            return [False] * len(served.clusters)
        return await asyncio.gather(*(server.answers(self._probe_timeout) for server in served.servers))

    async def stop(self) -> None:
        for task in self._supervisors:
            task.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        self._supervisors = []
        children = [served.child for served in self._served if served.child is not None]
        for served in self._served:
            served.servers, served.child = (), None
        await asyncio.gather(*(child.stop() for child in children))
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    async def _launch(self, served: _Served) -> None:
        """Start a vLLM and wait for each of its predictors' first real token. Raises `EngineError`."""
        if self._client is None or self._scratch is None:
            raise EngineError("the engine is not running")
        port = _free_port()
        child = served.child = Child(
            self._program(served.predictor, served.name, port, self._tuning),
            environment(os.environ, self.api_key, self._scratch, served.cores, self._tuning, self._plugin),
            self.log(served.clusters[0]),
            grace=self._grace,
        )
        servers = tuple(
            Server(
                self._client,
                f"http://127.0.0.1:{port}",
                self._vocabulary_size,
                model=served.name,
                context=self._context,
                api_key=self.api_key,
                block=block,
                probes_first=self._probes_first,
            )
            for block in range(self._stacked)
        )
        ended: asyncio.Task[None] | None = None
        try:
            await child.start()
            ended = asyncio.create_task(child.ended())
            async with asyncio.timeout(self._start_timeout):
                for server in servers:
                    await _ready(server, ended)
        except (TimeoutError, EngineError, OSError) as error:
            reason = str(error) or f"not ready within {self._start_timeout:.0f} seconds"
            await child.stop()
            raise EngineError(f"{served}: vLLM did not start: {reason}\n{child.last_words()}") from None
        except BaseException:
            await child.stop()
            raise
        finally:
            if ended is not None:
                ended.cancel()
        served.servers = servers

    async def _supervise(self, served: _Served) -> None:
        """Start it anew whenever it breaks, for ever."""
        loop = asyncio.get_running_loop()
        restarts = Restarts(Backoff(self._generator, first=_FIRST_PAUSE, most=_LONGEST_PAUSE), _STEADY)
        while True:
            since = loop.time()
            reason = await self._until_broken(served)
            served.servers = ()
            broke = began = loop.time()
            pause = restarts.died(broke - since)
            while not served.servers:
                logger.warning("%s: %s; starting it anew in %.1f s", served, reason, pause)
                if served.child is not None:
                    await served.child.stop()
                await self._pause(pause)
                try:
                    async with self._one_at_a_time:
                        began = loop.time()
                        await self._launch(served)
                except EngineError as error:
                    reason, pause = str(error), restarts.failed()
            logger.warning(
                "%s: vLLM answers again, %.1f s after its end was noticed; its start took %.1f s",
                *(served, loop.time() - broke, loop.time() - began),
            )
            for cluster in served.clusters:
                self._tell(cluster)

    async def _until_broken(self, served: _Served) -> str:
        """Returns, with the reason, when the child has ended or three questions in a row stayed without answer."""
        child, servers = served.child, served.servers
        if child is None or not servers:
            return "vLLM is not running"
        ended = asyncio.create_task(child.ended())
        failures, wait = 0, self._probe_every
        try:
            while failures < _FAILURES:
                done, _ = await asyncio.wait({ended}, timeout=wait)
                if done:
                    return "vLLM ended"
                answered = await servers[0].answers(max(self._probe_timeout, self._probe_every))
                failures, wait = (0, self._probe_every) if answered else (failures + 1, min(_SOON, self._probe_every))
            return "vLLM does not answer"
        finally:
            ended.cancel()


async def _ready(server: Server, ended: asyncio.Task[None]) -> None:
    """Returns when the server answers a real token. Raises `EngineError` if its process ends, or it is a wrong one."""
    while not ended.done():
        with contextlib.suppress(Unreachable):
            return await server.check()
        await asyncio.wait({ended}, timeout=_LOOK)
    raise EngineError("its process ended")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
