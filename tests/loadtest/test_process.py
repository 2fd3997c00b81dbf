from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.process import ProcessError, Sample, sample, watch

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(state: str, inode: int) -> str:
    return (
        f"   0: 0100007F:1F90 0100007F:C3A2 {state} 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1\n"
    )


def made(
    root: Path, pid: int, *, pages: int, shared: int, links: list[str], tasks: list[int], children: str = ""
) -> Path:
    own = root / str(pid)
    (own / "fd").mkdir(parents=True)
    (own / "net").mkdir()
    (own / "statm").write_text(f"99999 {pages} {shared} 1 0 5 0\n")
    for i, link in enumerate(links):
        (own / "fd" / str(i)).symlink_to(link)
    for task in tasks:
        (own / "task" / str(task)).mkdir(parents=True)
        (own / "task" / str(task) / "children").write_text(children if task == pid else "")
    return own


def test_a_family_of_processes_is_added_up(tmp_path: Path) -> None:
    own = made(
        tmp_path,
        10,
        pages=100,
        shared=6,
        links=["/dev/null", "socket:[71]", "socket:[72]", "socket:[73]"],
        tasks=[10, 11, 12],
        children="20 21 ",
    )
    (own / "net" / "tcp").write_text(HEAD + line("01", 71) + line("0A", 72) + line("01", 99))
    (own / "net" / "tcp6").write_text(HEAD + line("01", 80))
    made(tmp_path, 20, pages=7, shared=0, links=["socket:[80]"], tasks=[20], children="30")
    made(tmp_path, 30, pages=1, shared=0, links=["pipe:[4]"], tasks=[30])
    # 21 has ended
    page = os.sysconf("SC_PAGE_SIZE")
    assert sample(10, 3.0, tmp_path) == Sample(3.0, 108 * page, 6, 5, 2, 102 * page)


def test_a_real_process_is_seen() -> None:
    before = sample(os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted, client:
            after = sample(os.getpid())
    assert after.descriptors == before.descriptors + 3
    assert after.connections == before.connections + 2
    assert after.memory > after.anonymous > 2**20
    assert after.threads >= 1


def test_a_child_counts() -> None:
    before = sample(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        after = sample(os.getpid())
        child.communicate(b"\n")
    assert after.threads > before.threads
    assert after.memory > before.memory


def test_no_such_process_is_told() -> None:
    with pytest.raises(ProcessError, match="process 999999999 cannot be looked at: No such file or directory"):
        sample(999_999_999)


class Until(list[Sample]):
    """With its third sample the child's input, and with it the child, ends."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        super().__init__()
        self.child = child

    def append(self, value: Sample) -> None:
        super().append(value)
        if len(self) == 3:
            self.child.communicate(b"\n")


def test_watching_ends_with_the_process() -> None:
    async def watched(child: subprocess.Popen[bytes]) -> list[Sample]:
        found = Until(child)
        await watch(child.pid, found, asyncio.get_running_loop().time(), every=0.01)
        return found

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = asyncio.run(watched(child))
    assert len(found) == 3
    assert [sample.time for sample in found] == sorted(sample.time for sample in found)
