from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtest.soak.allocator import heap
from loadtest.soak.victim import DAYS, JUMPED, Bomb, Clock, Death, telling


def test_a_bomb_goes_off_once() -> None:
    calls: list[int] = []
    bomb = Bomb(lambda number: calls.append(number))
    bomb(1)
    bomb.light()
    with pytest.raises(Death):
        bomb(2)
    bomb(3)
    assert calls == [1, 3]


def test_a_clock_jumps_until_it_is_told_to_stop(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock(lambda: 1e9)
    assert clock() == 1e9
    clock.turn()
    seen = [clock() for _ in range(50)]
    assert len(set(seen)) == 50
    assert all(0 < abs(time - 1e9) <= DAYS * 86_400 for time in seen)
    clock.turn()
    assert clock() == 1e9
    assert capfd.readouterr().err == f"{JUMPED} 50\n"


def test_tasks_and_memory_are_told_beside_the_work(tmp_path: Path) -> None:
    async def work() -> str:
        large = bytearray(64 << 20)
        waiting = [asyncio.create_task(asyncio.sleep(60)) for _ in range(5)]
        await asyncio.sleep(1.2)
        for task in waiting:
            task.cancel()
        del large
        return "done"

    assert telling(asyncio.run, tmp_path / "inside")(work()) == "done"
    lines = [line.split() for line in (tmp_path / "inside").read_text().splitlines()]
    assert [int(line[1]) for line in lines[:2]] == [1, 6]
    if heap() is not None:
        held = [int(line[2]) for line in lines[:2]]
        assert 64 << 20 <= held[1] - held[0] < 80 << 20
