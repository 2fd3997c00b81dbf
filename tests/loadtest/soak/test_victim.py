from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtest.soak.victim import DAYS, JUMPED, Bomb, Clock, Death, counting


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


def test_tasks_are_counted_beside_the_work(tmp_path: Path) -> None:
    async def work() -> str:
        waiting = [asyncio.create_task(asyncio.sleep(60)) for _ in range(5)]
        await asyncio.sleep(1.2)
        for task in waiting:
            task.cancel()
        return "done"

    assert counting(asyncio.run, tmp_path / "tasks")(work()) == "done"
    counts = [int(line.split()[1]) for line in (tmp_path / "tasks").read_text().splitlines()]
    assert counts[:2] == [1, 6]
