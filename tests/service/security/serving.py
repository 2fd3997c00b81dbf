"""The whole service on real sockets, in this process."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TextIO

from browsing.bundle import Bundle
from browsing.encoder import Encoder
from browsing.engine import Engine
from browsing.engines.table import TableEngine
from service.app import Service, build
from service.cache.memory import MemoryStore
from service.cache.store import Store
from service.serve import Sockets, bind, forward_logging, serve
from service.settings import Settings
from tests.service.building import tables
from tests.tiny import TinyEncoder


@asynccontextmanager
async def served(
    bundle: Bundle,
    *,
    engine: Engine | None = None,
    encoder: Encoder | None = None,
    store: Store | None = None,
    stream: TextIO | None = None,
    **settings: object,
) -> AsyncIterator[Sockets]:
    """The three ports, once every engine has answered. `stream`: where the log goes, that of the libraries too."""
    async with both(bundle, engine, encoder, store, stream, **settings) as (sockets, _):
        yield sockets


@asynccontextmanager
async def both(
    bundle: Bundle,
    engine: Engine | None = None,
    encoder: Encoder | None = None,
    store: Store | None = None,
    stream: TextIO | None = None,
    **settings: object,
) -> AsyncIterator[tuple[Sockets, Service]]:
    """The same, with the service's parts."""
    own = Settings.model_validate(
        {"port": 0, "metrics_port": 0, "drain_seconds": 1, "lame_duck_seconds": 0, **settings}
    )
    engine = engine or TableEngine(tables(len(bundle.vocabulary), bundle.clusters))
    service = build(
        own, bundle, engine, encoder or TinyEncoder(), store or MemoryStore(), stream=stream or io.StringIO()
    )
    if stream is not None:
        forward_logging(service)
    sockets = bind(own)
    up = asyncio.Event()
    running = asyncio.create_task(serve(service, own, sockets, up.set))
    try:
        await asyncio.wait_for(up.wait(), 60)
        yield sockets, service
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        sockets.close()
