"""CPU seconds and memory, of a process and its descendants."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtest.bench import cpu


def process(root: Path, pid: int, name: str, ticks: tuple[int, int], pages: int, children: str = "") -> None:
    own = root / str(pid)
    (own / "task" / str(pid)).mkdir(parents=True)
    (own / "task" / str(pid) / "children").write_text(children)
    fields = ["S", *["0"] * 10, *map(str, ticks), *["0"] * 20]
    (own / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    (own / "statm").write_text(f"9999 {pages} 1 1 0 1 0\n")


def test_descendants_count(tmp_path: Path) -> None:
    process(tmp_path, 7, "python", (200, 100), 10, "8 9 ")
    process(tmp_path, 8, "EngineCore", (50, 0), 5)
    process(tmp_path, 9, "a (b) c", (0, 25), 1, "10 ")  # its child has ended
    process(tmp_path, 11, "somebody", (1_000, 0), 100)
    used = cpu.used(7, tmp_path)
    assert used == {"python": 300 / cpu.TICKS, "EngineCore": 50 / cpu.TICKS, "a (b) c": 25 / cpu.TICKS}
    assert cpu.resident(7, tmp_path) == 16 * os.sysconf("SC_PAGE_SIZE")


def test_what_is_new_began_at_nothing() -> None:
    assert cpu.spent({"a": 1.0}, {"a": 1.5, "b": 0.25}) == {"a": 0.5, "b": 0.25}


def test_work_is_seen() -> None:
    before = cpu.used(os.getpid())
    while sum(cpu.spent(before, cpu.used(os.getpid())).values()) < 0.05:
        sum(range(10_000))
    assert cpu.resident(os.getpid()) == pytest.approx(cpu.resident(os.getpid()), rel=0.1)
    assert cpu.resident(os.getpid()) > 2**20
