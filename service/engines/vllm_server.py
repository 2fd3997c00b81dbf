"""The engine port over HTTP: running vLLM servers, one or more per cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx

from browsing.console import progress
from browsing.engine import EngineDown, GenerateRequest, Path
from service.engines.fingerprint import Fingerprint
from service.engines.server import Server, Unreachable, new_client

_MOMENT = 2.0
"""Seconds that the replicas of a server that is ready are waited for at the start."""


class VllmServerEngine:
    """`browsing.engine.Engine` over running servers: `urls[k]` serves cluster k's predictor, or each of `urls[k]` does.

    They are started with `--generation-config vllm --logprobs-mode raw_logprobs`, on a CPU also with
    `--no-enable-chunked-prefill` (see `service.engines.machine.arguments`, also for what makes them fast); `models` are
    the clusters' `--served-model-name`s, by default whatever each serves. See `Server` for the rest. Also
    `service.resilience.replicas.Replicated`: which replica answers is for the circuits in front to choose, `generate`
    itself asks the first.
    """

    def __init__(
        self,
        urls: Sequence[str | Sequence[str]],
        vocabulary_size: int,
        *,
        models: Sequence[str | None] | None = None,
        context: int = 0,
        api_key: str | None = None,
        start_timeout: float = 60.0,
        probe_timeout: float = 5.0,
    ) -> None:
        """Raises `ValueError` if there are no URLs, or `models` does not go with them."""
        if models is not None and len(models) != len(urls):
            raise ValueError(f"{len(models)} model names for {len(urls)} URLs")
        self._urls = [[own] if isinstance(own, str) else list(own) for own in urls]
        if not self._urls or not all(self._urls):
            raise ValueError("no URL: each cluster's vLLM server has one")
        self._vocabulary_size = vocabulary_size
        self._models = list(models) if models is not None else [None] * len(urls)
        self._context = context
        self._api_key = api_key
        self._start_timeout = start_timeout
        self._probe_timeout = probe_timeout
        self._client: httpx.AsyncClient | None = None
        self._servers: list[list[Server]] = []

    def replicas(self, cluster: int) -> int:
        return len(self._urls[cluster])

    async def start(self) -> None:
        """Wait at most `start_timeout` seconds for servers that are still starting: one of each cluster must be there,
        its replicas may come later. One that is wrong fails at once. Nothing happens if it is running."""
        if self._client is not None:
            return
        self._client = client = new_client()
        servers = [self._made(client, urls, model) for urls, model in zip(self._urls, self._models, strict=True)]
        tasks = [asyncio.create_task(self._await_one(own)) for own in servers]
        try:
            with progress("vLLM servers", len(tasks), "clusters") as advance:
                for ready in asyncio.as_completed(tasks):
                    await ready
                    advance(1)
        except BaseException:
            await self.stop()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._servers = servers

    def _made(self, client: httpx.AsyncClient, urls: Sequence[str], model: str | None) -> list[Server]:
        shared = Fingerprint()
        return [
            Server(
                client,
                url,
                self._vocabulary_size,
                model=model,
                context=self._context,
                api_key=self._api_key,
                fingerprint=shared,
            )
            for url in urls
        ]

    async def _await_one(self, servers: Sequence[Server]) -> None:
        """Returns when one is ready and the others are, too, or have had their moment. Raises what is wrong with any,
        or `Unreachable` if none is there."""
        waiting = {asyncio.create_task(self._await(server)) for server in servers}
        ready = False
        absent: Unreachable | None = None
        try:
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=_MOMENT if ready else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    return
                for task in done:
                    try:
                        task.result()
                        ready = True
                    except Unreachable as error:
                        absent = error
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if not ready and absent is not None:
            raise absent

    async def _await(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._start_timeout
        while True:
            try:
                return await server.check()
            except Unreachable:
                if loop.time() >= end:
                    raise
            await asyncio.sleep(0.5)

    async def generate(self, request: GenerateRequest) -> list[Path]:
        return await self.generate_on(0, request)

    async def generate_on(self, replica: int, request: GenerateRequest) -> list[Path]:
        if not 0 <= request.cluster < len(self._urls):
            raise ValueError(f"no cluster {request.cluster}: there are {len(self._urls)}")
        return await self._server(request.cluster, replica).generate(request)

    async def probe(self, cluster: int, replica: int) -> None:
        await self._server(cluster, replica).check()

    def _server(self, cluster: int, replica: int) -> Server:
        if not self._servers:
            raise EngineDown("the engine is not running")
        return self._servers[cluster][replica]

    async def healthy(self) -> dict[int, bool]:
        return {cluster: any(up) for cluster, up in (await self.healthy_replicas()).items()}

    async def healthy_replicas(self) -> dict[int, list[bool]]:
        if not self._servers:
            return {cluster: [False] * len(urls) for cluster, urls in enumerate(self._urls)}
        well = iter(
            await asyncio.gather(*(server.well(self._probe_timeout) for own in self._servers for server in own))
        )
        return {cluster: [next(well) for _ in own] for cluster, own in enumerate(self._servers)}

    async def stop(self) -> None:
        self._servers = []
        if self._client is not None:
            await self._client.aclose()
            self._client = None
