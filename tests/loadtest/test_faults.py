from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.check import Kind, Verdict
from loadtest.faults import FaultError, Hook, bad_after, recovered_after
from loadtest.generator import Fate, Reply


def fate(intended: float, kind: Kind = "correct", fallback: str | None = None, took: float = 0.1) -> Fate:
    return Fate(int(intended * 10), intended, intended, intended + took, Reply("", Verdict(kind, fallback=fallback)))


def test_recovery_is_the_first_good_answer_after_the_last_bad_one() -> None:
    fates = [
        fate(4.0, "refused"),  # before the fault
        fate(4.9, "lost", took=0.4),  # caught under way
        fate(5.2, fallback="engine_down"),
        fate(5.4),
        fate(5.6, "refused"),
        fate(6.5),
        fate(6.0),
        fate(6.2, "left"),
        fate(7.0),
    ]
    assert recovered_after(fates, 5.0) == pytest.approx(1.0)
    assert [bad.intended for bad in bad_after(fates, 5.0)] == [4.9, 5.2, 5.6]


def test_nobody_noticed() -> None:
    assert recovered_after([fate(1.0), fate(3.0)], 2.0) == 0.0


def test_what_was_bad_before_and_good_at_once_has_no_negative_time() -> None:
    assert recovered_after([fate(1.9, "lost", took=0.5), fate(1.95), fate(3.0)], 2.0) == 0.0


def test_never_again() -> None:
    assert recovered_after([fate(1.0), fate(2.5, "unreachable"), fate(3.0, "dropped")], 2.0) is None


def test_a_process_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        hook = Hook(pid=child.pid)
        hook.check()
        assert hook
        assert hook.words == f"SIGKILL to process {child.pid}"
        asyncio.run(hook.strike())
        assert child.wait(60) == -9
    with pytest.raises(FaultError, match=f"--kill-pid {child.pid}: No such process"):
        hook.check()
    with pytest.raises(FaultError, match="before it was its turn"):
        asyncio.run(hook.strike())


def test_a_command_is_run_without_a_shell_and_undone(tmp_path: Path) -> None:
    killed, undone = tmp_path / "a $(b)", tmp_path / "undone"
    hook = Hook(command=f"touch '{killed}'", restore=f"touch {undone}")
    hook.check()
    assert hook.words == "touch"
    asyncio.run(hook.strike())
    assert killed.exists()
    assert not undone.exists()
    asyncio.run(hook.undo())
    assert undone.exists()


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (Hook(pid=1), "--kill-pid 1: not this one"),
        (Hook(pid=999_999_999), "--kill-pid 999999999: No such process"),
        (Hook(command="no-such-program -9"), "--kill-command: there is no program no-such-program"),
        (Hook(command="''"), "--kill-command: there is no program"),
        (Hook(command="touch 'a"), "--kill-command: No closing quotation"),
        (Hook(command="true", restore="no-such-program"), "--restore-command: there is no program"),
    ],
)
def test_what_cannot_be_done_is_known_before(hook: Hook, message: str) -> None:
    with pytest.raises(FaultError, match=message):
        hook.check()


def test_a_command_that_fails_is_told() -> None:
    with pytest.raises(FaultError, match="--kill-command: it ended with code 1"):
        asyncio.run(Hook(command="false").strike())
    asyncio.run(Hook().undo())
    assert not Hook()
