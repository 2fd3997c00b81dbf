"""A child and everything below it go when it is stopped, when it ends, and when its parent is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from service.engines import guard
from service.engines.child import Child
from tests.processes import runs, until

# A tree of three: the grandchild is an orphan, which nothing but the process group still holds, and heeds no SIGTERM
# where it is told so.
TREE = """
import os, signal, sys, time
if os.fork() == 0:
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, {disposition})
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.01)
{ending}
"""
GRANDCHILD = 10.0


def _tree(path: Path, *, disposition: str = "signal.SIG_DFL", ending: str = "time.sleep(600)") -> list[str]:
    return [sys.executable, "-I", "-c", TREE.format(disposition=disposition, ending=ending), str(path)]


def _wait_for(path: Path) -> int:
    until(lambda: path.exists() and path.read_text(), GRANDCHILD, pause=0.01)
    return int(path.read_text())


def _gone(pid: int, seconds: float = 20.0) -> bool:
    with suppress(TimeoutError):
        until(lambda: not runs(pid), seconds, pause=0.02)
    return not runs(pid)


@pytest.mark.parametrize("disposition", ["signal.SIG_DFL", "signal.SIG_IGN"])
def test_stop_takes_the_whole_tree(tmp_path: Path, disposition: str) -> None:
    async def run() -> int:
        child = Child(_tree(tmp_path / "pid", disposition=disposition), os.environ, tmp_path / "log", grace=1.0)
        await child.start()
        pid = await asyncio.to_thread(_wait_for, tmp_path / "pid")
        assert runs(pid)
        assert child.group == os.getpgid(pid)
        await child.stop()
        await child.stop()
        assert child.group is None
        return pid

    assert _gone(asyncio.run(run()), 1.0)


@pytest.mark.parametrize(
    ("ending", "words"), [("sys.exit(0)", "ended with code 0"), ("sys.exit('a clear reason')", "a clear reason")]
)
def test_an_end_is_noticed_with_whatever_code(tmp_path: Path, ending: str, words: str) -> None:
    async def run() -> str:
        child = Child(_tree(tmp_path / "pid", ending=ending), os.environ, tmp_path / "log", grace=5.0)
        await child.start()
        async with asyncio.timeout(10):
            await child.ended()
        assert _gone(int((tmp_path / "pid").read_text()), 1.0)
        await child.stop()
        return child.last_words()

    assert words in asyncio.run(run())


def test_a_killed_guard_takes_the_tree_with_it(tmp_path: Path) -> None:
    async def run() -> int:
        child = Child(_tree(tmp_path / "pid"), os.environ, tmp_path / "log", grace=5.0)
        await child.start()
        pid = await asyncio.to_thread(_wait_for, tmp_path / "pid")
        assert child.group is not None
        os.kill(child.group, signal.SIGKILL)
        async with asyncio.timeout(10):
            await child.ended()
        await child.stop()
        return pid

    assert _gone(asyncio.run(run()))


def test_no_orphan_survives_a_killed_parent(tmp_path: Path) -> None:
    """The parent is another process, which has started a child as the service does, and dies of SIGKILL."""
    code = (
        "import asyncio, os, sys, pathlib\n"
        "from service.engines.child import Child\n"
        "async def main():\n"
        "    child = Child(sys.argv[2:], os.environ, pathlib.Path(sys.argv[1]), grace=5.0)\n"
        "    await child.start()\n"
        "    await child.ended()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log"), *_tree(tmp_path / "pid")]
    with subprocess.Popen(command, cwd=Path(guard.__file__).parents[2]) as parent:
        pid = _wait_for(tmp_path / "pid")
        group = os.getpgid(pid)
        parent.kill()
    assert _gone(pid)
    assert _gone(group)


def test_what_cannot_be_run_says_so(tmp_path: Path) -> None:
    async def run() -> str:
        child = Child([str(tmp_path / "absent")], os.environ, tmp_path / "log", grace=1.0)
        assert child.last_words() == ""
        await child.ended()
        await child.stop()
        await child.start()
        await child.ended()
        await child.stop()
        return child.last_words()

    assert "absent" in asyncio.run(run())


def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    async def run(word: str) -> None:
        child = Child(["echo", word], os.environ, tmp_path / "a.log", grace=1.0)
        await child.start()
        await child.ended()
        await child.stop()

    asyncio.run(run("first"))
    asyncio.run(run("second"))
    assert (tmp_path / "a.previous.log").read_text().startswith("first")
    assert (tmp_path / "a.log").read_text().startswith("second")
