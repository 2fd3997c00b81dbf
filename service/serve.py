"""Run the service: the API and the metrics on two ports of one event loop, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from service.app import Service
from service.logs import Forward, described
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Sockets:
    """Both bound before anything slow happens: a port that is taken is known at once."""

    api: socket.socket
    metrics: socket.socket

    @property
    def api_url(self) -> str:
        return _url(self.api)

    @property
    def metrics_url(self) -> str:
        return _url(self.metrics) + "/metrics"

    def close(self) -> None:
        self.api.close()
        self.metrics.close()


def bind(settings: Settings) -> Sockets:
    """Raises `OSError`; its `filename` says which setting it was."""
    api = _bound(settings.host, settings.port, "--port")
    try:
        return Sockets(api, _bound(settings.metrics_host, settings.metrics_port, "--metrics-port"))
    except OSError:
        api.close()
        raise


def _bound(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    own = socket.socket(family, socket.SOCK_STREAM)
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind((host, port))
    except OSError as error:
        own.close()
        raise OSError(error.errno, error.strerror, f"{flag} {host}:{port}") from error
    return own


def _url(own: socket.socket) -> str:
    host, port = own.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """`listens` is set once connections are taken. Signals are handled once, for both servers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(service: Service, settings: Settings, sockets: Sockets, ready: Callable[[], None]) -> None:
    """Serve until told to stop, then finish what is under way. `ready` is called once every engine has answered.

    The API listens from the start: `/livez` says yes and `/readyz` no while engines load. Raises what an engine's start
    raised.
    """
    api = _server(service.app, settings, lifespan=True)
    metrics = _server(service.metrics_app, settings, lifespan=False)

    def stop() -> None:
        for server in (api, metrics):
            server.force_exit = server.should_exit  # the second signal does not wait
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.set_exception_handler(lambda _, context: _log_stray(service, context))
    telling = asyncio.create_task(metrics.serve(sockets=[sockets.metrics]))
    announcing = asyncio.create_task(_announce(service, api, ready))
    try:
        await api.serve(sockets=[sockets.api])
    finally:
        announcing.cancel()
        metrics.should_exit = True
        announced, _ = await asyncio.gather(announcing, telling, return_exceptions=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if isinstance(announced, Exception):
        raise announced


def _server(app: ASGIApp, settings: Settings, *, lifespan: bool) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on" if lifespan else "off",
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    )


async def _announce(service: Service, api: _Server, ready: Callable[[], None]) -> None:
    await api.listens.wait()
    try:
        await service.health.started()
    except Exception:
        api.should_exit = True  # nothing to serve with
        raise
    ready()


def _log_stray(service: Service, context: dict[str, object]) -> None:
    error = context.get("exception")
    details = described(error) if isinstance(error, BaseException) else {}
    service.log.error("stray_exception", **details)


def forward_logging(service: Service) -> None:
    """What libraries log goes into the service's log; for a process that does nothing else."""
    root = logging.getLogger()
    root.handlers = [Forward(service.log)]
    root.setLevel(logging.WARNING)
