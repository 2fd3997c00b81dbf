"""Freed memory is given back when it is much, and when nobody waits."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from service.reclaim import ARENAS, WORTH, Reclaim, glibc_trim, resident
from service.scoring.online import Online


class Process:
    """A process whose memory the test sets, and which is trimmed to what it holds."""

    def __init__(self) -> None:
        self.held = 100 << 20
        self.resident = self.held
        self.trims = 0

    def trim(self) -> None:
        self.resident = self.held
        self.trims += 1


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def looks(reclaim: Reclaim, process: Process, count: int = 20) -> None:
    """Long enough for `count` looks: each sleeps a millisecond."""
    for _ in range(2 * count):
        await asyncio.sleep(0.001)


async def at_once() -> None:
    return


def made(process: Process, quiet: Callable[[], Awaitable[object]] = at_once) -> Reclaim:
    return Reclaim(quiet, trim=process.trim, resident=lambda: process.resident, every=0.001)


def test_what_a_burst_left_is_given_back_once() -> None:
    async def go() -> None:
        process = Process()
        reclaim = made(process)
        async with reclaim.running():
            process.resident += WORTH
            await until(lambda: process.trims > 0)
            assert process.resident == process.held
            await looks(reclaim, process)
        assert process.trims == 1

    asyncio.run(go())


def test_little_is_left_alone() -> None:
    async def go() -> None:
        process = Process()
        reclaim = made(process)
        async with reclaim.running():
            process.resident += WORTH - 1
            await looks(reclaim, process)
        assert process.trims == 0

    asyncio.run(go())


def test_what_was_held_for_a_while_does_not_raise_the_bar() -> None:
    async def go() -> None:
        process = Process()
        reclaim = made(process)
        async with reclaim.running():
            process.held += 2 * WORTH
            process.resident = process.held
            await until(lambda: process.trims > 0)
            process.held -= 2 * WORTH
            await until(lambda: process.resident == process.held)
            trims = process.trims
            await looks(reclaim, process)
        assert process.trims == trims

    asyncio.run(go())


def test_a_process_that_holds_what_it_has_is_looked_at_ever_less_often() -> None:
    async def go() -> None:
        process = Process()
        async with made(process).running():
            process.held += 2 * WORTH
            process.resident = process.held
            await until(lambda: process.trims >= 6)  # after 1, 2, 4, ... milliseconds
            began = time.monotonic()
            await until(lambda: process.trims >= 8)
            assert time.monotonic() - began >= 0.064

    asyncio.run(go())


def test_it_waits_for_a_moment_without_requests() -> None:
    async def go() -> None:
        process = Process()
        online = Online()
        reclaim = made(process, online.quiet)
        async with reclaim.running():
            with online.request():
                process.resident += WORTH
                await looks(reclaim, process)
                assert process.trims == 0
            await until(lambda: process.trims > 0)

    asyncio.run(go())


def test_where_no_such_moment_comes_it_is_done_all_the_same() -> None:
    async def go() -> None:
        process = Process()
        online = Online()
        reclaim = Reclaim(
            online.quiet, trim=process.trim, resident=lambda: process.resident, every=0.001, patience=0.02
        )
        async with reclaim.running():
            with online.request():
                process.resident += WORTH
                await until(lambda: process.trims > 0)
                assert process.resident == process.held
        assert process.trims == 1

    asyncio.run(go())


def test_where_memory_is_not_told_nothing_happens() -> None:
    async def go() -> None:
        def unknown() -> int:
            raise OSError(2, "No such file or directory")

        process = Process()
        reclaim = Reclaim(at_once, trim=process.trim, resident=unknown, every=0.001)
        async with reclaim.running():
            await looks(reclaim, process)
        assert process.trims == 0

    asyncio.run(go())


def test_without_the_c_librarys_function_nothing_runs() -> None:
    async def go() -> None:
        async with Reclaim(at_once, trim=None).running():
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(go())


def test_threads_share_few_arenas() -> None:
    code = """
import ctypes, sys, threading
from service.reclaim import few_arenas
if sys.argv[1] == "few":
    few_arenas()
begin, end = threading.Barrier(12), threading.Barrier(12)
def allocate():
    begin.wait()
    held = [bytearray(5_000) for _ in range(1_000)]
    end.wait()
threads = [threading.Thread(target=allocate) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
file = libc.fdopen(1, b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fflush(ctypes.c_void_p(file))
"""

    def arenas(how: str) -> int:
        told = subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, timeout=120)
        return told.stdout.count("<heap nr=")

    if arenas("many") > ARENAS:  # it is glibc
        assert 1 <= arenas("few") <= ARENAS


def test_the_real_function_and_the_real_number() -> None:
    trim = glibc_trim()
    assert trim is not None
    trim()
    assert 1 << 20 < resident() < 1 << 40


@pytest.mark.parametrize("command", [["serve", "nowhere"], ["score", "nowhere", "no.parquet", "--out", "no.ndjson"]])
def test_what_arrow_reads_and_writes_is_the_c_librarys_too(command: list[str], tmp_path: Path) -> None:
    """The choice is made once, when Arrow is loaded: with `pyarrow.set_memory_pool` its own allocator would still write
    Parquet files."""
    code = f"""
import sys
from browsing.cli import main
sys.argv = ["hetlm", *{command!r}]
try:
    main()
except SystemExit:
    pass
import pyarrow as pa
import pyarrow.parquet as pq
pq.write_table(pa.table({{"page": [f"/{{n}}" for n in range(1000)]}}), "file", compression="zstd")
pq.read_table("file")
print(pa.system_memory_pool().max_memory() > 0, [
    name for name in pa.supported_memory_backends() if name != "system"
    and getattr(pa, f"{{name}}_memory_pool")().max_memory() > 0
])
"""
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert told.stdout.splitlines()[-1] == "True []", told.stderr
