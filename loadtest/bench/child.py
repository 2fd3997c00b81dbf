"""A program that is measured, as a child process: its first line says that it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtest.bench.errors import BenchError

PATIENCE = 300.0
LINE_LIMIT = 64 * 2**20
GRACE = 10.0


class Child:
    """`python -m MODULE ARGUMENTS`. What it says on stderr goes to `log`."""

    def __init__(
        self, module: str, arguments: Sequence[str], log: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        self._command = (sys.executable, "-m", module, *arguments)
        self._log = log
        self._variables = dict(variables or {})
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BenchError("not started")
        return self._process.pid

    async def launch(self) -> None:
        with self._log.open("wb") as file:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                env={**os.environ, **self._variables},
                limit=LINE_LIMIT,
            )

    async def hear(self, patience: float = PATIENCE) -> str:
        """Its next line. Raises `BenchError` where it ends, or says nothing in time."""
        if self._process is None or self._process.stdout is None:
            raise BenchError("not started")
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), patience)
        except TimeoutError:
            raise BenchError(f"{self._command[2]} said nothing for {patience:g} seconds: {self.said()}") from None
        if not line:
            raise BenchError(f"{self._command[2]} ended: {self.said()}")
        return line.decode()

    async def tell(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            raise BenchError("not started")
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def said(self, most: int = 800) -> str:
        return self._log.read_text(errors="replace").strip()[-most:] or "nothing on stderr"

    async def end(self) -> None:
        """The end of its stdin, then SIGTERM, then SIGKILL."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, ConnectionError):
            if process.stdin is not None:
                process.stdin.close()
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), GRACE)
        except TimeoutError:
            process.kill()
            await process.wait()
