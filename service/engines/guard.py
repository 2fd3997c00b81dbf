"""Runs one command and answers for all its processes. A script of its own, of the standard library alone.

vLLM is a tree of processes, and those below its HTTP server live on when that is killed. This script stands between:
however its parent dies (its standard input ends), or the command does, the rest of the tree is asked to go, then
killed, and reaped. It leads a process group that all of them are in.

    python -I guard.py GRACE-SECONDS COMMAND...
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# What a dead command leaves behind has nothing to finish, and keeps a new one waiting: vLLM's engine process is seen to
# take longer than 2 seconds to go, and to be killed in the end.
_GRACE_OF_ORPHANS = 0.2


def main(arguments: list[str]) -> int:
    """Returns 0 once no process of the tree is left."""
    grace, command = float(arguments[0]), arguments[1:]
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # orphans of the tree become this process's children, which it can wait for
    wake = _wake_on_signals()
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        _run(command, guard)
    if _until_over(child, wake):
        grace = min(grace, _GRACE_OF_ORPHANS)
    os.killpg(0, signal.SIGTERM)
    end = time.monotonic() + grace
    while _reap():
        left = end - time.monotonic()
        if left <= 0:
            os.killpg(0, signal.SIGKILL)  # this process included
        select.select([wake], [], [], max(left, 0))
        _drain(wake)
    return 0


def _run(command: list[str], guard: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # should the guard itself be killed
    if os.getppid() != guard:
        os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error}", file=sys.stderr, flush=True)
        os._exit(127)


def _until_over(child: int, wake: int) -> bool:
    """Returns when the command has ended (True), the parent is gone, or a signal says stop."""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if 0 in ready and not os.read(0, 1):
            return False
        if wake in ready:
            if {signal.SIGTERM, signal.SIGINT} & set(_drain(wake)):
                return False
            while (ended := _waitpid()) is not None and ended[0] > 0:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    print(
                        f"ended with {f'code {code}' if code >= 0 else f'signal {-code}'}", file=sys.stderr, flush=True
                    )
                    return True


def _reap() -> bool:
    """Collect the dead; whether any child is left."""
    while (ended := _waitpid()) is not None:
        if ended[0] == 0:
            return True
    return False


def _waitpid() -> tuple[int, int] | None:
    """(pid, status) of a dead child, (0, 0) if all live, None if there is none."""
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None


def _wake_on_signals() -> int:
    """A file descriptor that receives the number of every signal that matters here."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader


def _drain(wake: int) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return os.read(wake, 4096)
    return b""


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the group is all there is."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
