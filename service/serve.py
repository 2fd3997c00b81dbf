"""Run the service: API, metrics and administration on ports of one event loop, until SIGTERM or Ctrl-C."""

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
from service.resilience.shutdown import Draining, Shutdown
from service.security.admin import port as admin_port
from service.security.wire import BoundedHttp
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Sockets:
    """Bound before anything slow happens: a port that is taken is known at once. `admin`: None without that port."""

    api: socket.socket
    metrics: socket.socket
    admin: socket.socket | None = None

    @property
    def api_url(self) -> str:
        return _url(self.api)

    @property
    def metrics_url(self) -> str:
        return _url(self.metrics) + "/metrics"

    @property
    def admin_url(self) -> str | None:
        return _url(self.admin) + "/admin" if self.admin is not None else None

    def close(self) -> None:
        for own in (self.api, self.metrics, self.admin):
            if own is not None:
                own.close()


def bind(settings: Settings) -> Sockets:
    """Raises `OSError`, whose `filename` says which setting it was, and `KeyFileError`."""
    admin = admin_port(settings)
    bound = [_bound(settings.host, settings.port, "--port")]
    try:
        bound.append(_bound(settings.metrics_host, settings.metrics_port, "--metrics-port"))
        if admin is not None:
            bound.append(_bound(settings.admin_host, admin, "--admin-port"))
        return Sockets(*bound)
    except OSError:
        for own in bound:
            own.close()
        raise


def _bound(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol said, asyncio switches Nagle's algorithm off on every connection: otherwise an answer's second
    # piece waits for 40 ms until the client has acknowledged the first.
    own = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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

    The API listens from the start: `/livez` says yes and `/readyz` no while engines load. From the first signal on
    `/readyz` says no again; see `service.resilience.shutdown.Shutdown`. Raises what an engine's start raised.
    """
    api = _server(Draining(service.app, lambda: shutdown.leaving), settings, lifespan=True)
    beside = [(_server(service.metrics_app, settings, lifespan=False), sockets.metrics)]
    if sockets.admin is not None:
        beside.append((_server(service.admin_app, settings, lifespan=False), sockets.admin))

    def close() -> None:
        api.should_exit = True  # what stands beside it is told to the last

    def force() -> None:
        for server in (api, *(other for other, _ in beside)):
            server.force_exit = server.should_exit = True

    loop = asyncio.get_running_loop()
    shutdown = Shutdown(settings.lame_duck_seconds, service.leave, close, force)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, shutdown.on_signal, number)
    loop.set_exception_handler(lambda _, context: _log_stray(service, context))
    others = [asyncio.create_task(server.serve(sockets=[own])) for server, own in beside]
    announcing = asyncio.create_task(_announce(service, api, ready))
    try:
        await api.serve(sockets=[sockets.api])
    finally:
        announcing.cancel()
        shutdown.cancel()
        for server, _ in beside:
            server.should_exit = True
        announced, *_ = await asyncio.gather(announcing, *others, return_exceptions=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if isinstance(announced, Exception):
        raise announced


def _server(app: ASGIApp, settings: Settings, *, lifespan: bool) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=BoundedHttp,
            ws="none",  # nothing here speaks WebSocket
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
